"""Stores of format 1, written before there was format 2 (version_1.tar.xz), do what others do."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_split
from stores import CLASSES, TOPK, UINT8, is_sound, known, make, same_labels, shards
from test_other_reader import OtherReader
from website import Website

import pipeline.views.plan
from pipeline.core.errors import StoreError
from pipeline.labelling.derive.average import Average
from pipeline.labelling.derive.base import Derivation, Destination
from pipeline.labelling.derive.merge import Merge
from pipeline.labelling.derive.subset import Subset
from pipeline.labelling.settings import VerifyLabels
from pipeline.labelling.takeover import EarlierStore
from pipeline.labelling.verify import verify_store
from pipeline.labels.canaries import check_canaries
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples
from pipeline.student.labelled_views import LabelledViews
from pipeline.views.spec import render

SPLIT, MORE = make_split(20, shape=(1, 40, 4)), make_split(29, shape=(1, 40, 4))
VERIFY = VerifyLabels(num_labels=10, seed=0, kl_tolerance_nats=0.0, accuracy_tolerance=0.0, batch_size=10, device="cpu")
NAMES = pytest.mark.parametrize("name", ["top2", "mixed"])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Returns a folder of stores: two views of `SPLIT`, plain and mixed, and a third of `MORE`."""
    with tarfile.open(Path(__file__).with_name("version_1.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "version_1"


def again(old: Path, name: str) -> StoreReader:
    """Returns the same store in the format of today."""
    row = {"top2": TOPK, "mixed": UINT8}[name]
    return make(old / f"{name} again.zarr", row, SPLIT, views=StoreReader(old / f"{name}.zarr").manifest.views)


def derived(derivation: Derivation, old: Path) -> StoreReader:
    derivation.make(Destination(old / "derived.zarr", old / "records"))
    store = StoreReader(old / "derived.zarr")
    assert store.manifest.version == 2
    assert is_sound(store)
    assert check_canaries(store.canaries, MORE, store.views, "store", store.row_order(MORE)) == len(
        store.canaries.views
    )
    return store


@NAMES
def test_it_holds_the_labels_samples_and_canaries_of_one_of_today(old: Path, name: str) -> None:
    store, new = StoreReader(old / f"{name}.zarr"), again(old, name)
    assert (store.manifest.version, new.manifest.version) == (1, 2)
    assert is_sound(store)
    assert same_labels(store, new)
    np.testing.assert_array_equal(known(store, SPLIT), SPLIT.sample_ids)
    assert new.manifest.may_share_labels(store.manifest)
    assert not verify_store(store.path, None, SPLIT, VERIFY).faults
    assert not verify_store(new.path, None, SPLIT, VERIFY).faults


@NAMES
def test_a_student_sees_the_same_batches(old: Path, name: str) -> None:
    batches = [
        next(LabelledViews(SPLIT, store, CLASSES, 2.0).batches(1, 0, batch_size=8, seed=0))
        for store in (StoreReader(old / f"{name}.zarr"), again(old, name))
    ]
    assert torch.equal(batches[0].inputs, batches[1].inputs)
    assert torch.equal(*(batch.soft_targets for batch in batches))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [lambda x: x.roll(1, dims=2), lambda x: x.flip(3)], ids=["shifted", "flipped"])
def test_its_thumbnails_refuse_other_views(
    old: Path, change: Callable[[torch.Tensor], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StoreReader(old / "top2.zarr")
    monkeypatch.setattr(pipeline.views.plan, "render", lambda *views: change(render(*views)))
    with pytest.raises(StoreError, match="of 4 views are not what the teacher saw"):
        check_canaries(store.canaries, SPLIT, store.views, "store")


def test_it_is_cut(old: Path) -> None:
    store = StoreReader(old / "top2.zarr")
    some = derived(Subset(store, [1, 0], store.samples.take(slice(5, 20))), old)
    np.testing.assert_array_equal(known(some, SPLIT), SPLIT.sample_ids[5:])
    assert some.samples.num_bytes == 6
    assert torch.equal(some.read_view(0)["classes"], store.read_view(1)["classes"][5:])


@pytest.mark.parametrize("newer", [0, 1, 2], ids=["both old", "old and new", "new and old"])
def test_it_is_merged_with_old_and_new(old: Path, newer: int) -> None:
    parts = [StoreReader(old / "top2.zarr"), StoreReader(old / "more.zarr")]
    parts[1] = _first(parts[1], old)
    if newer:
        parts[0] = again(old, "top2")
    whole = derived(Merge(parts if newer < 2 else parts[::-1]), old)
    assert same_labels(whole, parts[0], [0, 1])
    assert same_labels(whole, parts[1], [2])


def _first(store: StoreReader, old: Path) -> StoreReader:
    Subset(store, None, store.samples.take(slice(len(SPLIT)))).make(Destination(old / "first.zarr", old / "first"))
    return StoreReader(old / "first.zarr")


@NAMES
def test_it_is_averaged_with_a_new_one(old: Path, name: str) -> None:
    store = StoreReader(old / f"{name}.zarr")
    for order in ([store, again(old, name)], [again_of(old, name), store]):
        whole = derived(Average(order, [1.0, 1.0], store.encoding, 20), old)
        decoded = [one.decode(one.read_view(0), 1.0).exp() for one in (whole, store)]
        torch.testing.assert_close(*decoded, rtol=0, atol=0.03)  # encoded once more
        shutil.rmtree(whole.path)
        shutil.rmtree(old / "records")


def again_of(old: Path, name: str) -> StoreReader:
    return StoreReader(old / f"{name} again.zarr")


def test_its_labels_are_taken_over(old: Path) -> None:
    source = EarlierStore(StoreReader(old / "top2.zarr"), StoredSamples.of(MORE.sample_ids[::-1]))
    assert source.rows.tolist() == [-1] * 9 + list(range(19, -1, -1))


def test_its_blocks_are_repaired_in_place(old: Path) -> None:
    store = StoreReader(old / "top2.zarr")
    block, labels = store.manifest.blocks()[1], store.read_view(0, range(8, 16))
    shards(store.path, "classes")[1].unlink()
    assert store.replace_block(block, labels, store.fidelity_parts[1])
    assert is_sound(StoreReader(store.path))
    labels["classes"][0, 0] = (labels["classes"][0, 0] + 1) % 6
    assert not store.replace_block(block, labels, store.fidelity_parts[1])
    assert StoreReader(store.path).manifest.version == 1
    assert is_sound(StoreReader(store.path))


def test_it_is_read_at_a_url(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Website(old) as site:
        assert same_labels(StoreReader(f"{site.url}/top2.zarr"), StoreReader(old / "top2.zarr"))


def test_another_reader_reads_it_from_the_document(old: Path) -> None:
    import tensorstore

    ours, other = StoreReader(old / "top2.zarr"), OtherReader(old / "top2.zarr", tensorstore)
    assert {folder.name for folder in other.path.iterdir() if folder.is_dir()} == set(other.arrays)
    assert other.rows_of(SPLIT.sample_ids.tolist()) == list(range(20))
    decoded = ours.decode(ours.read_view(1), 2.0).double().numpy()
    np.testing.assert_allclose(decoded, other.decode(1, 2.0), rtol=1e-5, atol=1e-4)
    images = dict(zip(SPLIT.sample_ids.tolist(), SPLIT.inputs.numpy(), strict=True))
    for sample, view, pixels in zip(*(vars(ours.canaries).values()), strict=True):
        drawn = pipeline.views.plan.plan_view(SPLIT, ours.views, int(view), rows=np.array([list(images).index(sample)]))
        np.testing.assert_array_equal(
            other.canary(drawn.render(slice(None))[0].numpy(), int(sample), int(view)), pixels
        )
