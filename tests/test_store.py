"""The soft-label store: what is written is read, a killed writer goes on to the same bytes, and no damage is silent."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from conftest import make_split

import pipeline.store
from pipeline.canaries import make_canaries
from pipeline.encodings import build_encoding
from pipeline.errors import StoreError
from pipeline.store import Block, Manifest, StoreReader, StoreWriter
from pipeline.views import ViewSpec

SPLIT = make_split(20)
SPEC = ViewSpec(seed=5, pad_px=2, flip_horizontal=True)
NUM_VIEWS, CLASSES = 2, ["a", "b", "c", "d"]
LOGITS = 3 * torch.randn(NUM_VIEWS, len(SPLIT), len(CLASSES), generator=torch.Generator().manual_seed(0))
FLOAT16: dict[str, Any] = {"kind": "dense_float16"}
Copy = Callable[[dict[str, Any]], Path]
UINT8: dict[str, Any] = {"kind": "dense_uint8", "range_nats": 40.0}
EACH_DENSE = pytest.mark.parametrize("row", [FLOAT16, UINT8], ids=["float16", "uint8"])


@pytest.fixture(scope="module", autouse=True)
def unflushed() -> Iterator[None]:
    """Writes without waiting for the disk, which would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


def begin(folder: Path, row: dict[str, Any], **changes: Any) -> StoreWriter:
    arguments: dict[str, Any] = {
        "encoding": row,
        "class_names": CLASSES,
        "num_views": NUM_VIEWS,
        "num_samples": len(SPLIT),
        "block_samples": 8,
        "temperature": 1.0,
        "temperatures": [1.0, 4.0],
        "views": SPEC.to_dict(),
        "dataset_fingerprint": "00ff",
        "teacher": {"fingerprint": "11ee", "val_accuracy": 0.9},
        **changes,
    }
    canaries = make_canaries(SPLIT, SPEC, NUM_VIEWS, 6)
    return StoreWriter(folder / "x.zarr", folder / "records", Manifest(**arguments), SPLIT.sample_ids, canaries)


def blocks() -> list[Block]:
    return [Block(view, rows) for view in range(NUM_VIEWS) for rows in (range(8), range(8, 16), range(16, 20))]


def write(writer: StoreWriter, chosen: list[Block]) -> None:
    for block in chosen:
        writer.write(block, LOGITS[block.view, block.rows.start : block.rows.stop])


def make(folder: Path, row: dict[str, Any], **changes: Any) -> Path:
    writer = begin(folder, row, **changes)
    write(writer, blocks())
    writer.finish()
    return folder / "x.zarr"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished store of each dense encoding, to copy from."""
    return {row["kind"]: make(tmp_path_factory.mktemp("finished"), row) for row in (FLOAT16, UINT8)}


@pytest.fixture
def copy(finished: dict[str, Path], tmp_path: Path) -> Copy:
    """Gives a finished store of an encoding that a test may damage."""
    return lambda row: Path(shutil.copytree(finished[row["kind"]], tmp_path / "x.zarr"))


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def shards(path: Path, array: str) -> list[Path]:
    return sorted(file for file in (path / array).rglob("*") if file.is_file() and file.name != "zarr.json")


def field_of(row: dict[str, Any]) -> str:
    return next(iter(build_encoding(row, "test").fields(len(CLASSES))))


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    whole = json.loads((path / "zarr.json").read_text())
    change(whole["attributes"])
    (path / "zarr.json").write_text(json.dumps(whole))


@EACH_DENSE
def test_labels_come_back_with_their_samples_views_and_canaries(copy: Copy, row: dict[str, Any]) -> None:
    reader = StoreReader(copy(row))
    np.testing.assert_array_equal(reader.sample_ids, SPLIT.sample_ids)
    assert reader.views == SPEC
    made = make_canaries(SPLIT, SPEC, NUM_VIEWS, 6)
    for name in ("sample_ids", "views", "pixels"):
        np.testing.assert_array_equal(getattr(reader.canaries, name), getattr(made, name))
    for view in range(NUM_VIEWS):
        labels = reader.read_view(view)
        for temperature in (1.0, 4.0):
            exact = torch.log_softmax(LOGITS[view] / temperature, dim=1)
            torch.testing.assert_close(reader.decode(labels, temperature), exact, rtol=0.02, atol=0.03)
        some = reader.read_view(view, range(5, 18))
        assert all(torch.equal(some[name], labels[name][5:18]) for name in labels)


def test_any_temperature_can_be_read_whatever_the_stored_one(tmp_path: Path) -> None:
    reader = StoreReader(make(tmp_path, FLOAT16, temperature=2.0))
    exact = torch.log_softmax(LOGITS[1] / 3, dim=1)
    torch.testing.assert_close(reader.decode(reader.read_view(1), 3.0), exact, rtol=0.01, atol=0.01)


@EACH_DENSE
def test_the_manifest_states_size_and_fidelity_as_measured(copy: Copy, row: dict[str, Any]) -> None:
    path = copy(row)
    reader = StoreReader(path)
    manifest = reader.manifest
    assert manifest.fidelity is not None
    size = sum(len(data) for name, data in content(path).items() if not name.endswith("zarr.json"))
    assert manifest.label_bytes == pytest.approx(size / (NUM_VIEWS * len(SPLIT)), abs=1e-4)
    for temperature in (1.0, 4.0):
        exact = torch.log_softmax(LOGITS.double() / temperature, dim=2)
        decoded = torch.stack([reader.decode(reader.read_view(v), temperature) for v in range(NUM_VIEWS)])
        decoded = torch.log_softmax(decoded.double(), dim=2)
        kl = (exact.exp() * (exact - decoded)).sum(dim=2)
        stated = manifest.fidelity["kl_nats"][f"{temperature:g}"]
        assert stated["mean"] == pytest.approx(kl.mean().item(), rel=1e-3)
        assert stated["max"] == pytest.approx(kl.max().item(), rel=1e-3)
    assert manifest.fidelity["top1_agreement"] == 1


@EACH_DENSE
def test_a_store_can_be_read_without_this_project(tmp_path: Path, row: dict[str, Any]) -> None:
    path = make(tmp_path, row, temperature=2.0)
    group = zarr.open_group(path, mode="r")
    manifest: dict[str, Any] = dict(group.attrs)
    assert (manifest["format"], manifest["version"], manifest["complete"]) == ("potstill-soft-labels", 1, True)
    stored: Any = group[field_of(row)]
    if manifest["encoding"]["kind"] == "dense_uint8":
        scores = -manifest["encoding"]["range_nats"] * (stored[:].astype(np.float64) / 254) ** 2
    else:
        scores = stored[:].astype(np.float64)
    scores *= manifest["temperature"] / 4.0
    by_hand = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
    reader = StoreReader(path)
    decoded = torch.stack([reader.decode(reader.read_view(view), 4.0) for view in range(NUM_VIEWS)])
    np.testing.assert_allclose(decoded, by_hand, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(group["sample_id"]), SPLIT.sample_ids)


@EACH_DENSE
@pytest.mark.parametrize("written", [0, 1, 3, 6])
def test_a_killed_writer_goes_on_to_the_same_bytes(
    finished: dict[str, Path], tmp_path: Path, row: dict[str, Any], written: int
) -> None:
    whole = content(finished[row["kind"]])
    write(begin(tmp_path / "killed", row), blocks()[:written])
    writer = begin(tmp_path / "killed", row)
    assert [writer.has(block) for block in blocks()] == [i < written for i in range(6)]
    write(writer, blocks()[written:])
    writer.finish()
    assert content(tmp_path / "killed/x.zarr") == whole


def test_a_writer_killed_within_a_block_writes_it_again(
    finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(finished["dense_uint8"])
    writer = begin(tmp_path / "killed", UINT8)
    write(writer, blocks()[:2])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.store, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            writer.write(blocks()[2], torch.zeros(4, len(CLASSES)))
    writer = begin(tmp_path / "killed", UINT8)
    assert not writer.has(blocks()[2])
    write(writer, blocks()[2:])
    writer.finish()
    assert content(tmp_path / "killed/x.zarr") == whole


def test_blocks_may_be_written_in_any_order_by_several_writers(finished: dict[str, Path], tmp_path: Path) -> None:
    whole = content(finished["dense_uint8"])
    writers = [begin(tmp_path / "shared", UINT8) for _ in range(2)]
    for number, block in enumerate(reversed(blocks())):
        write(writers[number % 2], [block])
    writers[1].finish()
    assert content(tmp_path / "shared/x.zarr") == whole


def test_every_block_reaches_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, flushed = begin(tmp_path, UINT8), set()
    monkeypatch.setattr(
        "pipeline.arrays.os.fsync", lambda handle: flushed.add(Path(f"/proc/self/fd/{handle}").readlink())
    )
    write(writer, blocks())
    assert {file.resolve() for file in shards(tmp_path / "x.zarr", field_of(UINT8))} <= flushed


@pytest.mark.parametrize("missing", [1, 5])
def test_a_store_is_not_finished_while_a_block_is_missing(tmp_path: Path, missing: int) -> None:
    writer, left_out = begin(tmp_path, UINT8), blocks()[missing]
    write(writer, [block for block in blocks() if block != left_out])
    with pytest.raises(StoreError, match=f"block {left_out.name} is missing"):
        writer.finish()
    with pytest.raises(StoreError, match="is unfinished"):
        StoreReader(tmp_path / "x.zarr")


def _remove(file: Path) -> None:
    file.unlink()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(bytes(data))


@EACH_DENSE
@pytest.mark.parametrize("damage", [_remove, _cut, _empty, _flip])
def test_a_damaged_block_is_refused_by_name(copy: Copy, row: dict[str, Any], damage: Callable[[Path], object]) -> None:
    path = copy(row)
    damage(path / field_of(row) / "c/1/1/0")
    reader = StoreReader(path)
    reader.read_view(0)
    place = rf"x\.zarr/{field_of(row)}.*" + (blocks()[4].name if damage in {_remove, _empty} else "damaged")
    with pytest.raises(StoreError, match=place) as caught:
        reader.read_view(1)
    assert "\n" not in str(caught.value)


@EACH_DENSE
def test_no_flipped_bit_passes(copy: Copy, row: dict[str, Any]) -> None:
    path = copy(row)
    reader = StoreReader(path)
    reads: dict[Path, Callable[[], object]] = {
        shards(path, field_of(row))[0]: lambda: reader.read_view(0, range(8)),
        shards(path, "sample_id")[0]: lambda: reader.sample_ids,
        shards(path, "canary_sample_ids")[0]: lambda: reader.canaries,
    }
    for file, read in reads.items():
        data = file.read_bytes()
        for position in range(0, len(data), 3):
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            file.write_bytes(bytes(flipped))
            with pytest.raises(StoreError):
                read()
        file.write_bytes(data)
        read()


def test_a_check_lists_every_faulty_block_and_no_other(copy: Copy) -> None:
    path = copy(UINT8)
    assert [fault for _, fault in StoreReader(path).check()] == [None] * 6
    _remove(path / field_of(UINT8) / "c/0/2/0")
    _flip(path / field_of(UINT8) / "c/1/0/0")
    _cut(path / field_of(UINT8) / "c/1/1/0")
    checked = list(StoreReader(path).check())
    assert [block for block, _ in checked] == blocks()
    assert [block for block, fault in checked if fault] == [blocks()[i] for i in (2, 3, 4)]
    assert f"block {blocks()[2].name} is missing" in str(checked[2][1])


@pytest.mark.parametrize("array", ["sample_id", "canary_sample_ids", "canary_views", "canary_pixels"])
def test_lost_sample_ids_or_canaries_are_refused_by_name(copy: Copy, array: str) -> None:
    path = copy(UINT8)
    for file in shards(path, array):
        file.unlink()
    reader = StoreReader(path)
    with pytest.raises(StoreError, match=rf"x\.zarr/{array}"):
        _ = reader.sample_ids, reader.canaries


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="other"), "not a soft-label store; expected format 'potstill-soft-labels'"),
        (lambda m: m.clear(), "not a soft-label store"),
        (lambda m: m.update(version=2), "version 2; expected version 1"),
        (lambda m: m.pop("temperature"), "manifest can't be read.*'temperature'"),
        (lambda m: m.update(colour="red"), "manifest can't be read.*'colour'"),
        (lambda m: m.update(complete=False), "is unfinished"),
        (lambda m: m.pop("complete"), "is unfinished"),
        (lambda m: m.update(num_samples=21), r"shape \(2, 20, 4\); expected \(2, 21, 4\)"),
        (lambda m: m.update(num_views=3), r"shape \(2, 20, 4\); expected \(3, 20, 4\)"),
        (lambda m: m["class_names"].append("e"), r"shape \(2, 20, 4\); expected \(2, 20, 5\)"),
        (lambda m: m.update(encoding=FLOAT16), "x.zarr/log_probs: no such array"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    copy: Copy, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = copy(UINT8)

    def signed(manifest: dict[str, Any]) -> None:
        change(manifest)
        manifest["fingerprint"] = pipeline.store._manifest_fingerprint(manifest)

    edit_manifest(path, change if "format" in message or "soft-label" in message else signed)
    with pytest.raises(StoreError, match=message) as caught:
        StoreReader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("temperature", 3.0), ("teacher", {"fingerprint": "x"}), ("views", {})])
def test_a_manifest_that_was_changed_afterwards_is_refused(copy: Copy, key: str, value: object) -> None:
    path = copy(UINT8)
    edit_manifest(path, lambda manifest: manifest.update({key: value}))
    with pytest.raises(StoreError, match=r"x\.zarr: its manifest is not as it was written"):
        StoreReader(path)


@pytest.mark.parametrize("file", ["zarr.json", "sample_id/zarr.json", "log_prob_codes/zarr.json"])
@pytest.mark.parametrize("damage", [_remove, _empty, _cut])
def test_lost_or_damaged_metadata_is_one_error(copy: Copy, file: str, damage: Callable[[Path], object]) -> None:
    path = copy(UINT8)
    damage(path / file)
    with pytest.raises(StoreError, match=str((path / file).parent)):
        StoreReader(path)


def test_a_store_that_is_not_there_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"y\.zarr: no such folder; run `dvc repro dump_labels`"):
        StoreReader(tmp_path / "y.zarr")


def test_a_store_without_labels_holds_samples_views_and_canaries(tmp_path: Path) -> None:
    row = {"kind": "none"}
    writer = begin(tmp_path, row, teacher=None)
    assert all(writer.has(block) for block in blocks())
    writer.finish()
    reader = StoreReader(tmp_path / "x.zarr")
    np.testing.assert_array_equal(reader.sample_ids, SPLIT.sample_ids)
    assert len(reader.canaries.views) == 6
    assert reader.views == SPEC
    assert reader.read_view(1) == {}
    assert reader.manifest.fidelity is None
    assert [fault for _, fault in reader.check()] == [None] * 6


def test_records_of_a_store_that_is_gone_do_not_speak_for_a_new_one(tmp_path: Path) -> None:
    """A process that was killed while it published leaves its records without their store."""
    expected = content(make(tmp_path, UINT8))
    shutil.rmtree(tmp_path / "x.zarr")
    writer = begin(tmp_path, UINT8)
    assert not any(writer.has(block) for block in blocks())
    write(writer, blocks())
    writer.finish()
    assert content(tmp_path / "x.zarr") == expected
