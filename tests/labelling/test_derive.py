"""Stores made of stores: every label is the one that it was, under its own sample and view, and
nothing unfit is mixed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from stores import (
    ALIKE,
    ANCHORED,
    CLASSES,
    FLOAT16,
    NONE,
    REST,
    SAMPLED,
    SPEC,
    SPLIT,
    TOP_ODDS,
    TOPK,
    UINT8,
    Row,
    content,
    flip,
    is_sound,
    keys_of,
    known,
    make,
    shards,
    take,
)
from torch import nn

import pipeline.labelling.takeover
from pipeline.core.errors import ConfigError, PipelineError, StoreError
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.derive.average import Average
from pipeline.labelling.derive.base import Destination
from pipeline.labelling.derive.checks import need_alike, need_same
from pipeline.labelling.derive.merge import Merge
from pipeline.labelling.derive.subset import Subset
from pipeline.labelling.settings import VerifyLabels
from pipeline.labelling.takeover import EarlierStore, copied_labels
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.verify import TeacherNow, Witness, verify_store
from pipeline.labels.canaries import check_canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import encode_logits, measure_labels
from pipeline.labels.manifest import Block
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples

MORE = make_split(29)
VERIFY = VerifyLabels(num_labels=10, seed=0, kl_tolerance_nats=0.0, accuracy_tolerance=0.0, batch_size=10, device="cpu")
EACH_KIND = pytest.mark.parametrize(
    "row", [UINT8, TOPK, ANCHORED, TOP_ODDS], ids=["uint8", "topk", "anchored", "top_odds"]
)
Ignore = Callable[[int], object]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, unflushed: None) -> dict[str, StoreReader]:
    """Makes a store of three views of each encoding, which no test changes."""
    folder = tmp_path_factory.mktemp("stores")
    rows = (FLOAT16, UINT8, TOPK, ANCHORED, SAMPLED, NONE)
    return {row["kind"]: make(folder / f"{row['kind']}.zarr", row, view_numbers=range(3)) for row in rows}


def ignore(count: int) -> None:
    pass


def cut_out(
    store: StoreReader, out: Path, on_labels: Ignore = ignore, sample_ids: np.ndarray | None = None, **chosen: Any
) -> StoreReader:
    samples = None if sample_ids is None else StoredSamples.of(sample_ids)
    Subset(store, samples=samples, **chosen).make(Destination(out, out.with_suffix(".records"), on_labels))
    return StoreReader(out)


def join(stores: Sequence[StoreReader], out: Path, on_labels: Ignore = ignore) -> StoreReader:
    Merge(stores).make(Destination(out, out.with_suffix(".records"), on_labels))
    return StoreReader(out)


def mean(
    stores: Sequence[StoreReader],
    out: Path,
    weights: Sequence[float] = (1.0, 1.0),
    row: Row = FLOAT16,
    on_labels: Ignore = ignore,
    num_pilot: int = 15,
) -> StoreReader:
    encoding = build_encoding(row, "test")
    Average(stores, weights, encoding, num_pilot).make(Destination(out, out.with_suffix(".records"), on_labels))
    return StoreReader(out)


def labels_of(store: StoreReader) -> dict[tuple[int, int], dict[str, list[Any]]]:
    """Returns every label, as it is stored, by view number and sample key."""
    found = {}
    for index, view in enumerate(store.manifest.view_numbers):
        labels = store.read_view(index)
        for row, sample in enumerate(store.samples.keys.tolist()):
            found[view, sample] = {name: values[row].tolist() for name, values in labels.items()}
    return found


def parts_of(store: StoreReader, views: Sequence[int]) -> list[Fidelity]:
    """Returns the fidelity of the blocks of some views of a store that was dumped in one go."""
    pairs = zip(store.manifest.blocks(), store.fidelity_parts, strict=True)
    return [part for block, part in pairs if block.view in views]


def assert_well_made(store: StoreReader) -> None:
    """Asserts that a store is whole, of the right views, and with canaries that prove it."""
    assert is_sound(store)
    canaries = store.canaries
    assert len(canaries.views) > 0
    assert set(canaries.views.tolist()) <= set(store.manifest.view_numbers)
    assert (store.find(canaries.sample_ids) >= 0).all()
    assert check_canaries(canaries, MORE, SPEC, "store") == len(canaries.views)


# Subsets.


@pytest.mark.parametrize(
    ("row", "views"),
    [(UINT8, [1]), (SAMPLED, [0, 2]), (TOPK, [2, 0, 1]), (TOPK, None)],
    ids=["one", "two", "all", "as is"],
)
def test_some_views_are_a_store_of_their_own(
    tmp_path: Path, stores: dict[str, StoreReader], row: Row, views: list[int] | None
) -> None:
    store = stores[row["kind"]]
    some = cut_out(store, tmp_path / "x.zarr", views=views)
    wanted = views or [0, 1, 2]
    assert some.manifest.view_numbers == wanted
    assert labels_of(some) == {key: label for key, label in labels_of(store).items() if key[0] in wanted}
    assert all(np.array_equal(table, store.tables[name]) for name, table in some.tables.items())
    assert some.tables.keys() == store.tables.keys()
    assert some.manifest.fidelity == Fidelity.merge(parts_of(store, wanted)).summary()
    assert some.manifest.may_share_labels(store.manifest)
    assert_well_made(some)


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        (UINT8, range(4, 13)),
        (SAMPLED, range(19, -1, -1)),
        (TOPK, [17, 2, 9, 3, 11, 0, 8, 1, 16, 5]),
        (ANCHORED, [17, 2, 9, 3, 11, 0, 8, 1, 16, 5]),
    ],
    ids=["range", "reversed", "mixed", "anchored"],
)
def test_some_samples_are_a_store_of_their_own_in_the_order_that_was_asked_for(
    tmp_path: Path, stores: dict[str, StoreReader], row: Row, rows: Sequence[int]
) -> None:
    store, ids = stores[row["kind"]], SPLIT.sample_ids[list(rows)]
    some = cut_out(store, tmp_path / "x.zarr", sample_ids=ids, views=[2, 1])
    np.testing.assert_array_equal(known(some), ids)
    wanted = {(view, key) for view in (1, 2) for key in keys_of(ids).tolist()}
    assert labels_of(some) == {key: label for key, label in labels_of(store).items() if key in wanted}
    # Of the chosen views, over all samples that they were dumped for.
    assert some.manifest.fidelity == Fidelity.merge(parts_of(store, [1, 2])).summary()
    assert_well_made(some)


def test_a_subset_of_views_that_were_reordered_keeps_the_fidelity_of_each(
    tmp_path: Path, stores: dict[str, StoreReader]
) -> None:
    """There are as many parts then as blocks, but not in their order."""
    store = stores["dense_uint8"]
    turned = cut_out(store, tmp_path / "1.zarr", views=[2, 0])
    again = cut_out(turned, tmp_path / "2.zarr", views=[2])
    assert again.manifest.fidelity == Fidelity.merge(parts_of(store, [2])).summary()
    assert labels_of(again) == {key: label for key, label in labels_of(store).items() if key[0] == 2}


def test_a_subset_without_labels_has_samples_views_and_canaries(tmp_path: Path, stores: dict[str, StoreReader]) -> None:
    some = cut_out(stores["none"], tmp_path / "x.zarr", views=[1], sample_ids=SPLIT.sample_ids[5:15])
    assert some.read_view(0) == {}
    assert some.manifest.fidelity is None
    np.testing.assert_array_equal(known(some), SPLIT.sample_ids[5:15])
    assert_well_made(some)


@pytest.mark.parametrize("views", [[], [3], [0, 5], [1, 1], [-1]], ids=str)
def test_views_that_are_not_there_are_refused(tmp_path: Path, stores: dict[str, StoreReader], views: list[int]) -> None:
    with pytest.raises(
        StoreError, match=r"topk\.zarr: views \[.*\] asked for; expected some of \[0, 1, 2\], each once"
    ):
        cut_out(stores["topk"], tmp_path / "x.zarr", views=views)
    assert not (tmp_path / "x.zarr").exists()


def test_samples_that_are_not_there_are_refused_with_their_number(
    tmp_path: Path, stores: dict[str, StoreReader]
) -> None:
    with pytest.raises(StoreError, match=r"topk\.zarr: has no label for 9 of 19 samples; expected samples of this"):
        cut_out(stores["topk"], tmp_path / "x.zarr", sample_ids=MORE.sample_ids[10:])
    assert not (tmp_path / "x.zarr").exists()


def test_a_subset_that_no_canary_could_prove_is_refused(tmp_path: Path, stores: dict[str, StoreReader]) -> None:
    with_canary = stores["topk"].canaries.sample_ids
    without = SPLIT.sample_ids[~np.isin(SPLIT.sample_ids, with_canary)]
    for ids in (without, without[:0]):
        with pytest.raises(StoreError, match="none of its canaries is among these views and samples"):
            cut_out(stores["topk"], tmp_path / "x.zarr", sample_ids=ids)


def test_damaged_labels_are_not_copied(tmp_path: Path) -> None:
    store = make(tmp_path / "old.zarr", UINT8)
    flip(shards(store.path, "log_prob_codes")[4])
    with pytest.raises(StoreError, match=r"old\.zarr/log_prob_codes.*damaged"):
        cut_out(store, tmp_path / "x.zarr")
    with pytest.raises(StoreError, match=r"old\.zarr/log_prob_codes.*damaged"):
        mean([store, store], tmp_path / "y.zarr")
    for name in ("x", "y"):
        with pytest.raises(StoreError, match="is unfinished"):
            StoreReader(tmp_path / f"{name}.zarr")


# Merges.


@pytest.mark.parametrize(
    ("row", "pieces"),
    [
        (UINT8, [(range(29), [0]), (range(29), [1, 2])]),
        (UINT8, [(range(29), [2, 1]), (range(29), [0])]),
        (UINT8, [(range(12), [0, 1, 2]), (range(12, 29), [0, 1, 2])]),
        (TOPK, [(range(12), [0]), (range(12, 29), [2, 0, 1]), (range(12), [1, 2])]),
        (UINT8, [(range(20), [0, 1]), (range(28, 8, -1), [0, 1])]),
        (TOPK, [(range(29), [1])]),
        (SAMPLED, [(range(20), [0, 1]), (range(28, 8, -1), [0, 1])]),
        (ANCHORED, [(range(12), [0]), (range(12, 29), [2, 0, 1]), (range(11, -1, -1), [1, 2])]),
    ],
    ids=["views", "views turned", "samples", "both", "overlapping", "one", "sampled", "anchored"],
)
def test_labels_of_several_stores_come_together(tmp_path: Path, row: Row, pieces: list[Any]) -> None:
    parts = [make(tmp_path / f"{n}.zarr", row, take(rows, MORE), views) for n, (rows, views) in enumerate(pieces)]
    whole = join(parts, tmp_path / "x.zarr")
    everything: dict[Any, Any] = {}
    for part in reversed(parts):
        everything |= labels_of(part)
    assert labels_of(whole) == everything
    assert whole.manifest.view_numbers == sorted({view for _, views in pieces for view in views})
    order = list(dict.fromkeys(key for part in parts for key in part.samples.keys.tolist()))
    assert whole.samples.keys.tolist() == order
    assert whole.manifest.fidelity == Fidelity.merge(p for part in parts for p in part.fidelity_parts).summary()
    assert_well_made(whole)


def test_where_stores_overlap_the_first_wins(tmp_path: Path) -> None:
    """They say the same, but perhaps not to the last bit: another machine's rounding."""
    same: dict[str, Any] = {"teacher": {"fingerprint": "0000"}}
    one = make(tmp_path / "1.zarr", UINT8, take(range(12)), [0, 1], **same)
    other = make(tmp_path / "2.zarr", UINT8, take(range(6, 20)), [1, 0], seed=1, **same)
    for stores in ([one, other], [other, one]):
        whole = join(stores, tmp_path / f"{stores[0].path.stem}x.zarr")
        assert labels_of(whole) == labels_of(stores[1]) | labels_of(stores[0])
        assert is_sound(whole)


def test_what_was_cut_apart_comes_together_again(tmp_path: Path) -> None:
    store = make(tmp_path / "old.zarr", TOPK, view_numbers=range(3), num_canaries=60)
    pieces = [
        cut_out(store, tmp_path / f"{view}{start}.zarr", views=[view], sample_ids=SPLIT.sample_ids[start::2])
        for view in (2, 0, 1)
        for start in (0, 1)
    ]
    whole = join(pieces, tmp_path / "x.zarr")
    assert labels_of(whole) == labels_of(store)
    again = cut_out(whole, tmp_path / "y.zarr", sample_ids=SPLIT.sample_ids)
    np.testing.assert_array_equal(known(again), SPLIT.sample_ids)
    assert labels_of(again) == labels_of(store)
    assert_well_made(again)


def test_a_view_of_a_merged_store_keeps_its_own_fidelity(tmp_path: Path) -> None:
    """Merged from its last view on, too."""
    last, first = (make(tmp_path / f"{n}.zarr", UINT8, view_numbers=v) for n, v in enumerate(([2], [0, 1])))
    whole = join([last, first], tmp_path / "x.zarr")
    assert whole.fidelity_parts == [*first.fidelity_parts, *last.fidelity_parts]
    some = cut_out(whole, tmp_path / "y.zarr", views=[2])
    assert some.manifest.fidelity == last.manifest.fidelity


def test_parts_that_are_as_many_as_the_blocks_are_not_taken_for_theirs(tmp_path: Path) -> None:
    """Of samples in another order, whose blocks nobody measured."""
    store = make(tmp_path / "old.zarr", UINT8)
    turned = cut_out(store, tmp_path / "1.zarr", sample_ids=SPLIT.sample_ids[::-1])
    assert len(store.fidelity_parts) == len(turned.manifest.blocks())
    assert turned.manifest.fidelity == store.manifest.fidelity
    assert cut_out(turned, tmp_path / "2.zarr", views=[1]).manifest.fidelity == store.manifest.fidelity


def test_stores_without_labels_are_merged_too(tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{start}.zarr", NONE, take(range(start, start + 10))) for start in (0, 10)]
    whole = join(parts, tmp_path / "x.zarr")
    np.testing.assert_array_equal(known(whole), SPLIT.sample_ids)
    assert whole.manifest.teacher is None
    assert_well_made(whole)


OTHER_VIEWS = SPEC.to_dict() | {"seed": 6}


@pytest.mark.parametrize(
    ("row", "changes", "named"),
    [
        (TOPK, {"teacher": {"fingerprint": "ffff"}}, r"teacher \{'fingerprint': 'ffff'\}; expected .*'0000'"),
        (TOPK, {"teacher": None}, r"teacher None; expected .*'0000'"),
        (TOPK | {"k": 3}, {}, r"encoding \{.*'k': 3.*\}; expected \{.*'k': 2"),
        (REST, {}, r"encoding \{.*'rest'.*\}; expected \{.*'prior'"),
        (UINT8, {}, r"encoding \{'kind': 'dense_uint8'"),
        (TOPK, {"temperature": 2.0}, r"temperature 2\.0; expected 1\.0"),
        (TOPK, {"temperatures": [1.0, 2.0]}, r"temperatures \[1\.0, 2\.0\]; expected \[1\.0, 2\.0, 4\.0\]"),
        (TOPK, {"views": OTHER_VIEWS}, r"views \{'seed': 6.*\}; expected \{'seed': 5"),
        (TOPK, {"class_names": ["f", *CLASSES[:5]]}, r"class names \['f', 'a'.*\]; expected \['a'"),
    ],
)
def test_stores_that_do_not_belong_together_are_not_merged(
    tmp_path: Path, stores: dict[str, StoreReader], row: Row, changes: dict[str, Any], named: str
) -> None:
    other = make(tmp_path / "other.zarr", row, take(range(4)), [3], **changes)
    with pytest.raises(StoreError, match=rf"other\.zarr: {named}.*\(.*topk\.zarr\)") as caught:
        join([stores["topk"], other], tmp_path / "x.zarr")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.zarr").exists()


def test_stores_whose_encoding_learned_something_else_are_not_merged(tmp_path: Path) -> None:
    one = make(tmp_path / "one.zarr", TOPK)
    other = make(tmp_path / "other.zarr", TOPK, seed=1, view_numbers=[2], teacher=one.manifest.teacher)
    with pytest.raises(StoreError, match=r"other\.zarr: its table prior_\w+ is another one; expected .*--grow "):
        join([one, other], tmp_path / "x.zarr")


def test_a_store_whose_samples_shorter_keys_do_not_tell_apart_is_not_merged(tmp_path: Path) -> None:
    """The keys of a merged store are as short as the shortest of its sources."""
    images = take(range(4), MORE)
    twins = SplitInMemory(images.inputs, images.hard_labels, np.array([5, *ALIKE, 9], np.uint64))
    one, other = make(tmp_path / "one.zarr", UINT8), make(tmp_path / "other.zarr", UINT8, twins)
    assert (one.samples.num_bytes, other.samples.num_bytes) == (6, 7)
    for stores in ([one, other], [other, one]):
        with pytest.raises(StoreError, match="merge: two different samples of a store have the same 6 bytes"):
            join(stores, tmp_path / "x.zarr")
        assert not (tmp_path / "x.zarr").exists()


def test_stores_with_other_anchors_of_the_same_samples_are_not_merged(tmp_path: Path) -> None:
    same: dict[str, Any] = {"teacher": {"fingerprint": "0000"}}
    one = make(tmp_path / "one.zarr", ANCHORED, take(range(12)), [0], **same)
    other = make(tmp_path / "other.zarr", ANCHORED, take(range(6, 12)), [1], seed=1, **same)
    some = cut_out(one, tmp_path / "some.zarr", sample_ids=known(other))
    found = r"other\.zarr: anchors of \d of 6 samples are others; expected those of .*some\.zarr; dump it with --grow "
    with pytest.raises(StoreError, match=found) as caught:
        join([some, other], tmp_path / "x.zarr")
    assert "\n" not in str(caught.value)


def test_holes_in_a_merge_are_refused_with_their_number(tmp_path: Path) -> None:
    one = make(tmp_path / "one.zarr", UINT8, take(range(20)), [0, 1])
    other = make(tmp_path / "other.zarr", UINT8, take(range(15, 29), MORE), [1, 0, 2])
    found = r"one\.zarr: view 2 of 15 of 29 samples is in none of the stores; expected every view of every sample"
    with pytest.raises(StoreError, match=found):
        join([one, other], tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr").exists()
    some = [one, cut_out(other, tmp_path / "some.zarr", views=[0, 1])]
    assert is_sound(join(some, tmp_path / "x.zarr"))


# Averages.


def probabilities(store: StoreReader, view: int, temperature: float = 1.0) -> dict[int, np.ndarray]:
    """Returns probabilities in float64, by sample key."""
    index = store.manifest.view_numbers.index(view)
    decoded = store.decode(store.read_view(index), temperature).double().softmax(dim=1).numpy()
    return dict(zip(store.samples.keys.tolist(), decoded, strict=True))


@pytest.mark.parametrize(
    ("weights", "temperature"), [([1.0, 1.0, 1.0], 1.0), ([0.5, 0.25, 0.25], 2.0), ([6.0, 1.0, 3.0], 1.0)], ids=str
)
def test_an_average_is_the_mean_of_the_teachers_probabilities(
    tmp_path: Path, weights: list[float], temperature: float
) -> None:
    rows = (FLOAT16, UINT8, TOPK)
    parts = [
        make(tmp_path / f"{n}.zarr", row, seed=n, view_numbers=[1, 4], temperature=temperature)
        for n, row in enumerate(rows)
    ]
    whole = mean(parts, tmp_path / "x.zarr", weights)
    shares = np.array(weights) / sum(weights)
    for view in (1, 4):
        decoded = probabilities(whole, view, temperature)
        each = [probabilities(part, view, temperature) for part in parts]
        for sample, found in decoded.items():
            wanted = sum(share * part[sample] for share, part in zip(shares, each, strict=True))
            np.testing.assert_allclose(found, wanted, rtol=0.01, atol=1e-4)
    assert whole.manifest.view_numbers == [1, 4]
    assert whole.manifest.temperature == temperature
    about: Any = whole.manifest.teacher
    assert [teacher["weight"] for teacher in about["mean_of"]] == pytest.approx(shares.tolist())
    assert [teacher["teacher"] for teacher in about["mean_of"]] == [part.manifest.teacher for part in parts]
    assert_well_made(whole)


class Pixels(nn.Module):
    """A network that gives the first pixels as logits."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, : len(CLASSES)].float()


def test_an_average_is_checked_without_a_teacher_which_it_has_not(tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{n}.zarr", FLOAT16, seed=n) for n in range(2)]
    mean(parts, tmp_path / "x.zarr")
    witness = Witness(Teacher(Pixels(), torch.device("cpu"), 7), TeacherNow("now", 0.5))
    assert not verify_store(tmp_path / "x.zarr", witness, SPLIT, VERIFY).faults
    assert verify_store(tmp_path / "0.zarr", witness, SPLIT, VERIFY).faults


def test_only_the_ratio_of_weights_counts(tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{n}.zarr", FLOAT16, seed=n) for n in range(2)]
    one, other = (mean(parts, tmp_path / f"{n}x.zarr", weights) for n, weights in enumerate(([1.0, 3.0], [0.25, 0.75])))
    assert content(one.path) == content(other.path)


def test_samples_are_averaged_by_their_id_and_in_the_order_of_the_first(tmp_path: Path) -> None:
    one = make(tmp_path / "1.zarr", FLOAT16, take(range(4, 18)))
    other = make(tmp_path / "2.zarr", FLOAT16, take(np.random.default_rng(0).permutation(20)), seed=1)
    whole = mean([one, other], tmp_path / "x.zarr")
    assert whole.samples.same(one.samples)
    first, second = probabilities(one, 1), probabilities(other, 1)
    for sample, found in probabilities(whole, 1).items():
        np.testing.assert_allclose(found, (first[sample] + second[sample]) / 2, rtol=0.01, atol=1e-4)


@EACH_KIND
def test_an_average_is_encoded_as_it_was_asked_for_and_its_fidelity_is_measured(tmp_path: Path, row: Row) -> None:
    signal = "binary" if row == TOP_ODDS else "categorical"
    parts = [make(tmp_path / f"{n}.zarr", FLOAT16, seed=n, signal=signal) for n in range(2)]
    whole = mean(parts, tmp_path / "x.zarr", row=row)
    assert whole.manifest.encoding == row
    assert whole.fidelity_parts == [_measured(whole, parts, block) for block in whole.manifest.blocks()]
    assert whole.manifest.fidelity == Fidelity.merge(whole.fidelity_parts).summary()
    assert_well_made(whole)


def test_labels_of_independent_classes_and_of_one_of_several_do_not_mix(tmp_path: Path) -> None:
    one, other = (
        make(tmp_path / f"{signal}.zarr", FLOAT16, signal=signal, teacher=None) for signal in ("categorical", "binary")
    )
    for check in (need_same, need_alike):
        with pytest.raises(StoreError, match=r"binary\.zarr: signal binary; expected categorical "):
            check(one, other)


def test_anchors_of_an_average_are_made_of_the_mean_labels_of_the_first_views(tmp_path: Path) -> None:
    parts = [make(tmp_path / f"{n}.zarr", FLOAT16, seed=n) for n in range(2)]
    whole = mean(parts, tmp_path / "x.zarr", row=ANCHORED)
    exact = torch.stack([_exact(parts, Block(view, view, range(20))) for view in (0, 1)])
    wanted = whole.codec.make_anchors(torch.log_softmax(exact.mean(dim=0), dim=1))
    assert all(torch.equal(values, wanted[name]) for name, values in whole.read_anchors(range(20)).items())
    late = [cut_out(part, tmp_path / f"late{n}.zarr", views=[1]) for n, part in enumerate(parts)]
    found = r"late0\.zarr: lacks view 0, of which anchors are made; expected views 0 to 1; average stores .*--encoding"
    with pytest.raises(StoreError, match=found):
        mean(late, tmp_path / "y.zarr", row=ANCHORED)


def _exact(parts: Sequence[StoreReader], block: Block) -> torch.Tensor:
    values = [part.decode(part.read_view(block.view_index, block.rows), 1.0).double() for part in parts]
    return parts[0].manifest.space.class_signal.mean(values, [0.5, 0.5]).float()


def _measured(whole: StoreReader, parts: Sequence[StoreReader], block: Block) -> Fidelity:
    labels, exact = whole.read_view(block.view_index, block.rows), _exact(parts, block)
    ids, anchors = whole.samples.keys[block.rows.start : block.rows.stop], whole.read_anchors(block.rows)
    again = encode_logits(whole.codec, exact, ids, block.view, anchors)
    assert all(torch.equal(labels[name], again[name]) for name in again)
    return measure_labels(whole.codec, exact, labels)


@pytest.mark.parametrize("num_pilot", [1, 15, 1000])
def test_an_encoding_learns_its_tables_from_the_average(tmp_path: Path, num_pilot: int) -> None:
    parts = [make(tmp_path / f"{n}.zarr", TOPK, seed=n) for n in range(2)]
    whole = mean(parts, tmp_path / "x.zarr", row=TOPK, num_pilot=num_pilot)
    assert whole.tables.keys() == parts[0].tables.keys()
    for part in parts:
        assert any(not np.array_equal(table, part.tables[name]) for name, table in whole.tables.items())
    if num_pilot == 1000:  # then the pilot is a whole view
        exact = _exact(parts, Block(0, 0, range(20)))
        learned = whole.encoding.learn(exact, whole.manifest.space)
        assert all(np.array_equal(table, learned[name]) for name, table in whole.tables.items())
    assert_well_made(whole)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"class_names": ["b", "a", *CLASSES[2:]]}, r"class names \['b', 'a'.*\]; expected \['a', 'b'"),
        ({"temperature": 2.0}, r"temperature 2\.0; expected 1\.0"),
        ({"views": OTHER_VIEWS}, r"views \{'seed': 6.*\}; expected \{'seed': 5"),
        ({"view_numbers": [0, 2]}, r"view numbers \[0, 2\]; expected \[0, 1, 2\]"),
        ({"view_numbers": [1, 0, 2]}, r"view numbers \[1, 0, 2\]; expected \[0, 1, 2\]"),
        ({"split": take(range(17))}, "has no label for 3 of 20 samples of .*; expected the same samples"),
    ],
)
def test_stores_that_speak_of_something_else_are_not_averaged(
    tmp_path: Path, stores: dict[str, StoreReader], changes: dict[str, Any], named: str
) -> None:
    other = make(tmp_path / "other.zarr", UINT8, **{"view_numbers": range(3), "seed": 1, **changes})
    with pytest.raises(StoreError, match=rf"other\.zarr: {named}") as caught:
        mean([stores["dense_uint8"], other], tmp_path / "x.zarr")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, 0.0], [2.0, -1.0], [1.0, float("nan")], [1.0, float("inf")], []], ids=str
)
def test_weights_that_make_no_mean_are_refused(
    tmp_path: Path, stores: dict[str, StoreReader], weights: list[float]
) -> None:
    store = stores["topk"]
    with pytest.raises(ConfigError, match=r"^weights: .*; expected 2 positive numbers"):
        mean([store, store], tmp_path / "x.zarr", weights)


def test_what_can_not_be_averaged_is_refused_in_one_line(tmp_path: Path, stores: dict[str, StoreReader]) -> None:
    with pytest.raises(PipelineError, match="holds no soft labels"):
        mean([stores["none"], stores["none"]], tmp_path / "x.zarr")
    with pytest.raises(ConfigError, match=r"\.k: 9; expected at most 5 for 6 classes"):
        mean([stores["topk"], stores["topk"]], tmp_path / "x.zarr", row=TOPK | {"k": 9})


# Killed and called again.

KINDS: dict[str, Callable[[Path, Sequence[StoreReader], Ignore], StoreReader]] = {
    "subset": lambda out, stores, on: cut_out(stores[0], out, on, views=[1, 0], sample_ids=SPLIT.sample_ids[19:2:-1]),
    "merge": lambda out, stores, on: join(stores[1:], out, on),
    "average": lambda out, stores, on: mean([stores[0]] * 2, out, row=TOPK, on_labels=on),
}


@pytest.mark.parametrize("kind", KINDS)
def test_work_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    rows = (range(20), range(11), range(5, 20))
    stores = [make(tmp_path / f"{n}.zarr", TOPK, take(some)) for n, some in enumerate(rows)]
    told: list[int] = []
    whole = KINDS[kind](tmp_path / "whole.zarr", stores, told.append)
    assert sum(told) == whole.manifest.num_labels
    assert told == [len(block.rows) for block in whole.manifest.blocks()]

    def kill(count: int) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    for blocks in (0, 3):
        out, left = tmp_path / f"{blocks}x.zarr", iter(range(blocks))
        with pytest.raises(KeyboardInterrupt):
            KINDS[kind](out, stores, kill)
        with pytest.raises(StoreError, match="is unfinished"):
            StoreReader(out)
        written = {file: file.stat().st_mtime_ns for file in shards(out, "classes")}
        assert len(written) == blocks + 1
        left = iter(range(1))  # and once more
        with pytest.raises(KeyboardInterrupt):
            KINDS[kind](out, stores, kill)
        KINDS[kind](out, stores, ignore)
        assert content(out) == content(whole.path)
        assert {file: file.stat().st_mtime_ns for file in written} == written


# Sources.


def test_a_source_finds_labels_by_sample_and_view(stores: dict[str, StoreReader]) -> None:
    store = stores["topk"]
    ids = np.array([SPLIT.sample_ids[7], 5, SPLIT.sample_ids[0]], dtype=np.uint64)
    source = EarlierStore(store, StoredSamples.of(ids))
    assert source.rows.tolist() == [7, -1, 0]
    assert [source.has_view(view) for view in (-1, 0, 2, 3)] == [False, True, True, False]
    for view in (2, 0, 2):
        labels, whole = source.labels(view, np.array([7, 0, 7])), store.read_view(view)
        assert all(torch.equal(labels[name], whole[name][[7, 0, 7]]) for name in whole)
    assert source.other_fidelity([2, 9], []) == parts_of(store, [2])
    assert source.other_fidelity([9], []) == []


def test_a_source_reads_the_blocks_that_are_asked_for_and_a_view_where_these_are_many(
    stores: dict[str, StoreReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reads, real = stores["topk"], [], StoreReader.read_view

    def read(self: StoreReader, index: int, rows: range | None = None) -> Any:
        reads.append((index, rows))
        return real(self, index, rows)

    monkeypatch.setattr(StoreReader, "read_view", read)
    monkeypatch.setattr(pipeline.labelling.takeover, "_FEW_BLOCKS", 1)
    source = EarlierStore(store, store.samples)
    for view, rows in ((0, [10, 8]), (0, [9]), (2, [9]), (2, []), (2, [19, 0]), (2, [17, 18]), (0, [18])):
        labels, whole = source.labels(view, np.array(rows, dtype=np.int64)), real(store, view)
        assert all(torch.equal(labels[name], whole[name][rows]) for name in whole)
    assert reads == [(0, range(8, 16)), (2, range(8, 16)), (2, range(20)), (0, range(16, 20))]


def test_a_block_is_put_together_from_the_first_source_that_has_each_label(stores: dict[str, StoreReader]) -> None:
    store = stores["dense_uint8"]
    first, second = EarlierStore(store, store.samples), EarlierStore(store, store.samples)
    first.rows = np.where(np.arange(20) % 3 == 0, first.rows, -1)
    labels = copied_labels([first, second], Block(1, 1, range(5, 15)))
    assert torch.equal(labels["log_prob_codes"], store.read_view(1)["log_prob_codes"][5:15])


# Views of two images.

MIXED_VIEWS = SPEC.to_dict() | {"operations": [{"kind": "cutmix", "alpha": 1.0, "probability": 1.0}]}


@pytest.fixture
def mixed(tmp_path: Path) -> StoreReader:
    return make(tmp_path / "mixed.zarr", UINT8, view_numbers=range(3), views=MIXED_VIEWS)


def test_mixed_views_are_cut_merged_and_averaged_view_by_view(tmp_path: Path, mixed: StoreReader) -> None:
    parts = [cut_out(mixed, tmp_path / f"{views}.zarr", views=views) for views in ([0], [2, 1])]
    whole = join(parts, tmp_path / "whole.zarr")
    assert labels_of(whole) == labels_of(mixed)
    assert is_sound(whole)
    assert whole.manifest.block_samples == mixed.manifest.block_samples
    other = make(tmp_path / "other.zarr", UINT8, view_numbers=range(3), views=MIXED_VIEWS, seed=1)
    both = mean([mixed, other], tmp_path / "mean.zarr")
    for store in (whole, both):
        assert check_canaries(store.canaries, SPLIT, store.views, "store", store.row_order(SPLIT)) == len(
            store.canaries.views
        )


def test_repeated_images_of_mixed_views_stay_in_their_blocks_in_a_merge(tmp_path: Path) -> None:
    split = take([*range(9), 2, *range(9, 20)])
    parts = [make(tmp_path / f"{view}.zarr", UINT8, split, [view], views=MIXED_VIEWS) for view in (0, 1)]
    whole = join(parts, tmp_path / "whole.zarr")
    np.testing.assert_array_equal(known(whole), split.sample_ids)
    assert check_canaries(whole.canaries, split, whole.views, "store", whole.row_order(split)) == len(
        whole.canaries.views
    )


@pytest.mark.parametrize("rows", [range(19), range(8), range(19, -1, -1)], ids=["some", "a block", "turned"])
def test_samples_of_mixed_views_are_not_taken_apart(tmp_path: Path, mixed: StoreReader, rows: range) -> None:
    with pytest.raises(StoreError, match=r"mixed\.zarr: its views are mixed of two images.*in their order") as caught:
        cut_out(mixed, tmp_path / "x.zarr", sample_ids=SPLIT.sample_ids[list(rows)])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize(
    ("rows", "changes", "told"),
    [
        (range(20), {"block_samples": 7}, r"blocks of 7 samples; expected blocks of 8 samples"),
        (range(16), {}, r"other samples, or in another order; expected the same"),
        (range(19, -1, -1), {}, r"other samples, or in another order; expected the same"),
    ],
    ids=["blocks", "samples", "order"],
)
def test_mixed_views_of_other_blocks_are_neither_merged_nor_averaged(
    tmp_path: Path, mixed: StoreReader, rows: range, changes: dict[str, Any], told: str
) -> None:
    other = make(tmp_path / "other.zarr", UINT8, take(rows), range(3), views=MIXED_VIEWS, **changes)
    for combine in (join, mean):
        with pytest.raises(StoreError, match=rf"other\.zarr: ({told}|has no label for 4).*mixed\.zarr") as caught:
            combine([mixed, other], tmp_path / "x.zarr")
        assert "\n" not in str(caught.value)
