"""The soft-label store: what is written is read, a killed writer goes on to the same bytes, and no
damage is silent.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from conftest import make_split
from stores import (
    ANCHORED,
    BINARY,
    DRAWN,
    FLOAT16,
    GRID,
    LABELLED,
    NONE,
    REST,
    SAMPLED,
    SPEC,
    SPLIT,
    TEMPERATURES,
    TOP_ODDS,
    TOPK,
    UINT8,
    Damage,
    Row,
    begin,
    block_logits,
    content,
    cut,
    empty,
    flip,
    is_sound,
    known,
    logits_of,
    make,
    manifest_of,
    mean_of,
    remove,
    shards,
    swap,
    tables_of,
    take,
    write,
)

import pipeline.labelling.records
import pipeline.labelling.writer
from pipeline.core.errors import PipelineError, StoreError
from pipeline.labelling.first_views import make_anchors
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import block_digest, encode_logits, gather, measure_labels
from pipeline.labels.manifest import AnchorBlock, manifest_fingerprint
from pipeline.labels.reader import StoreReader

BLOCKS = manifest_of(UINT8).blocks()
NAMES = {json.dumps(row): name for name, row in (LABELLED | BINARY | GRID).items()}
EACH = pytest.mark.parametrize("row", LABELLED.values(), ids=LABELLED)
EACH_KIND = pytest.mark.parametrize(
    "row", [UINT8, TOPK, ANCHORED, TOP_ODDS, DRAWN], ids=["uint8", "topk", "anchored", "top_odds", "drawn"]
)
EACH_DENSE = pytest.mark.parametrize("row", [FLOAT16, UINT8], ids=["float16", "uint8"])
TABLES = ("prior_classes", "prior_codes", "prior_rest_codes", "tail_offsets")
FIDELITY = ("fidelity_counts", "fidelity_labels", "fidelity_nats")
Copy = Callable[[Row], Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, unflushed: None) -> dict[str, Path]:
    """Makes a finished store of each encoding, to copy from."""
    folder = tmp_path_factory.mktemp("finished")
    return {name: make(folder / f"{name}.zarr", row).path for name, row in (LABELLED | BINARY | GRID).items()}


@pytest.fixture
def copy(finished: dict[str, Path], tmp_path: Path) -> Copy:
    """Gives a finished store of an encoding that a test may damage."""
    return lambda row: Path(shutil.copytree(finished[NAMES[json.dumps(row)]], tmp_path / "x.zarr"))


def fields_of(row: Row) -> list[str]:
    return list(build_encoding(row, "test").fields(manifest_of(row).space))


def file_of(path: Path, row: Row, field: str, place: str) -> Path:
    """Returns the file of a block of a field: its view and its number, with `/` between."""
    axes = build_encoding(row, "test").fields(manifest_of(row).space)[field].shape
    return path / field / "c" / place / "/".join("0" for _ in axes)


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    whole = json.loads((path / "zarr.json").read_text())
    change(whole["attributes"])
    (path / "zarr.json").write_text(json.dumps(whole))


def sign(manifest: dict[str, Any]) -> None:
    manifest["fingerprint"] = manifest_fingerprint(manifest)


# What is written is read.


@EACH
def test_labels_come_back_with_their_samples_views_and_canaries(finished: dict[str, Path], row: Row) -> None:
    reader = StoreReader(finished[NAMES[json.dumps(row)]])
    np.testing.assert_array_equal(known(reader), SPLIT.sample_ids)
    assert reader.views == SPEC
    made = make_canaries(SPLIT, SPEC, range(2), 6)
    for name in ("sample_ids", "views", "rendered"):
        np.testing.assert_array_equal(getattr(reader.canaries, name), getattr(made, name))
    codec = build_encoding(row, "test").codec(reader.manifest.space, tables_of(reader.manifest))
    for index, view in enumerate(reader.manifest.view_numbers):
        labels = reader.read_view(index)
        anchors = codec.make_anchors(mean_of(reader, range(20))) if reader.encoding.anchor_views else {}
        exact = encode_logits(codec, logits_of(SPLIT.sample_ids, view), SPLIT.sample_ids, view, anchors)
        assert labels.keys() == exact.keys() == {*reader.encoding.row_arrays(reader.manifest.space)}
        assert all(torch.equal(labels[name], exact[name]) for name in labels)
        some = reader.read_view(index, range(5, 18))
        assert all(torch.equal(some[name], labels[name][5:18]) for name in labels)
        assert all(len(none) == 0 for none in reader.read_view(index, range(0)).values())
        for temperature in reader.codec_temperatures:
            assert torch.equal(reader.decode(labels, temperature), codec.decode(exact, temperature))
    assert is_sound(reader)


@EACH_DENSE
def test_dense_labels_are_the_teachers_at_any_temperature(tmp_path: Path, row: Row) -> None:
    reader = make(tmp_path / "x.zarr", row, temperature=2.0)
    for temperature in (0.7, 1.0, 3.0):
        exact = torch.log_softmax(logits_of(SPLIT.sample_ids, 1) / temperature, dim=1)
        torch.testing.assert_close(reader.decode(reader.read_view(1), temperature), exact, rtol=0.03, atol=0.1)


@pytest.mark.parametrize("view_numbers", [[3], [4, 1, 9]])
def test_views_keep_their_numbers_and_their_order(tmp_path: Path, view_numbers: list[int]) -> None:
    reader = make(tmp_path / "x.zarr", FLOAT16, view_numbers=view_numbers)
    assert reader.manifest.view_numbers == view_numbers
    assert set(reader.canaries.views.tolist()) == set(view_numbers)
    for index, view in enumerate(view_numbers):
        exact = torch.log_softmax(logits_of(SPLIT.sample_ids, view), dim=1)
        torch.testing.assert_close(reader.decode(reader.read_view(index), 1.0), exact, rtol=0.01, atol=0.01)
    assert [block.view for block, _ in reader.check()] == [view for view in view_numbers for _ in range(3)]
    assert is_sound(reader)


def test_tables_come_back_bit_for_bit(finished: dict[str, Path]) -> None:
    reader, learned = StoreReader(finished["topk"]), tables_of(manifest_of(TOPK))
    assert reader.tables.keys() == learned.keys() == {*TABLES}
    for name, table in learned.items():
        assert reader.tables[name].dtype == table.dtype
        np.testing.assert_array_equal(reader.tables[name], table)
    size = sum(len(data) for name, data in content(finished["topk"]).items() if name.startswith(TABLES))
    size -= sum((finished["topk"] / name / "zarr.json").stat().st_size for name in TABLES)
    assert reader.manifest.table_bytes == size > 0
    assert StoreReader(finished["rest"]).tables == {}
    assert StoreReader(finished["uint8"]).manifest.table_bytes == 0


@pytest.mark.parametrize("row", [TOPK, SAMPLED], ids=["topk", "sampled"])
def test_a_temperature_that_was_not_declared_is_refused_with_those_that_were(copy: Copy, row: Row) -> None:
    reader = StoreReader(copy(row))
    able = "1, 2, 4" if row == TOPK else "1;"
    with pytest.raises(StoreError, match=rf"3, which this store can't serve; expected .*: {able}"):
        reader.decode(reader.read_view(0), 3.0)


@EACH
def test_the_manifest_states_size_and_fidelity_as_measured(finished: dict[str, Path], row: Row) -> None:
    path = finished[NAMES[json.dumps(row)]]
    reader = StoreReader(path)
    manifest = reader.manifest
    assert manifest.fidelity is not None
    size = sum(len(data) for name, data in content(path).items() if not name.endswith("zarr.json"))
    assert manifest.label_bytes == pytest.approx(size / manifest.num_labels, abs=1e-4)
    assert manifest.fidelity["num_labels"] == manifest.num_labels == 40
    assert list(manifest.fidelity["kl_nats"]) == (["1"] if row == SAMPLED else ["1", "2", "4"])
    for temperature in reader.codec_temperatures:
        exact = torch.stack([logits_of(SPLIT.sample_ids, view) for view in (0, 1)])
        exact = torch.log_softmax(exact.double() / temperature, dim=2)
        decoded = torch.stack([reader.decode(reader.read_view(index), temperature) for index in (0, 1)])
        decoded = torch.log_softmax(decoded.double(), dim=2)
        kl = (exact.exp() * (exact - decoded)).sum(dim=2)
        stated = manifest.fidelity["kl_nats"][f"{temperature:g}"]
        assert stated["mean"] == pytest.approx(kl.mean().item(), rel=1e-3, abs=2e-8)
        assert stated["max"] == pytest.approx(kl.max().item(), rel=1e-3, abs=2e-8)
        if temperature == 1:
            same = (exact.argmax(2) == decoded.argmax(2)).double().mean().item()
            assert manifest.fidelity["top1_agreement"] == pytest.approx(same)


@EACH
def test_fidelity_is_kept_block_by_block(finished: dict[str, Path], row: Row) -> None:
    reader = StoreReader(finished[NAMES[json.dumps(row)]])
    parts = reader.fidelity_parts
    for block, part in zip(reader.manifest.blocks(), parts, strict=True):
        labels = reader.read_view(block.view_index, block.rows)
        assert part == measure_labels(reader.codec, block_logits(reader, block), labels)
    assert Fidelity.merge(parts).summary() == reader.manifest.fidelity


def test_a_digest_is_of_a_blocks_content_alone() -> None:
    values = {"b": np.array([[1, 2], [3, 4]], np.uint16), "a": np.array([0.5, -1], np.float16)}
    by_hand = hashlib.blake2b(values["a"].astype("<f2").tobytes() + values["b"].astype("<u2").tobytes(), digest_size=8)
    assert block_digest(values) == int.from_bytes(by_hand.digest(), "little")
    assert block_digest(dict(reversed(values.items()))) == block_digest(values)
    assert block_digest({"a": values["a"].astype(">f2"), "b": values["b"].astype(">u2")}) == block_digest(values)
    assert block_digest({**values, "b": np.asfortranarray(values["b"])}) == block_digest(values)
    assert block_digest({**values, "b": values["b"].T}) != block_digest(values)


@EACH_DENSE
def test_a_store_can_be_read_without_this_project(tmp_path: Path, row: Row) -> None:
    reader = make(tmp_path / "x.zarr", row, temperature=2.0)
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    manifest: dict[str, Any] = dict(group.attrs)
    assert (manifest["format"], manifest["version"], manifest["complete"]) == ("potstill-soft-labels", 2, True)
    stored: Any = group[fields_of(row)[0]]
    if manifest["encoding"]["kind"] == "dense_uint8":
        scores = -manifest["encoding"]["range_nats"] * (stored[:].astype(np.float64) / 254) ** 2
    else:
        scores = stored[:].astype(np.float64)
    scores *= manifest["temperature"] / 4.0
    by_hand = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
    decoded = torch.stack([reader.decode(reader.read_view(view), 4.0) for view in range(2)])
    np.testing.assert_allclose(decoded, by_hand, rtol=1e-5, atol=1e-6)
    low = np.asarray(group["sample_key"])[:, 4:].astype(np.uint64)
    np.testing.assert_array_equal(low[:, 0] << 8 | low[:, 1], (SPLIT.sample_ids >> 16) & 0xFFFF)


def test_a_store_without_labels_holds_samples_views_and_canaries(tmp_path: Path) -> None:
    writer = begin(tmp_path / "x.zarr", NONE)
    assert all(writer.has(block) for block in BLOCKS)
    writer.finish()
    reader = StoreReader(tmp_path / "x.zarr")
    np.testing.assert_array_equal(known(reader), SPLIT.sample_ids)
    assert len(reader.canaries.views) == 6
    assert reader.views == SPEC
    assert reader.read_view(1) == {}
    assert (reader.manifest.fidelity, reader.fidelity_parts, reader.tables) == (None, [], {})
    assert is_sound(reader)
    assert not {"block_digest", *FIDELITY} & {path.name for path in reader.path.iterdir()}


# A killed writer goes on to the same bytes.


@EACH_KIND
@pytest.mark.parametrize("written", [0, 3, 6])
def test_a_killed_writer_goes_on_to_the_same_bytes(
    finished: dict[str, Path], tmp_path: Path, row: Row, written: int
) -> None:
    write(begin(tmp_path / "x.zarr", row), BLOCKS[:written])
    writer = begin(tmp_path / "x.zarr", row)
    assert [writer.settle(block) for block in BLOCKS] == [i < written for i in range(6)]
    write(writer, BLOCKS[written:])
    writer.finish()
    assert content(tmp_path / "x.zarr") == content(finished[NAMES[json.dumps(row)]])


def test_a_writer_killed_within_a_block_writes_it_again(
    finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begin(tmp_path / "x.zarr", TOPK)
    write(writer, BLOCKS[:2])

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.labelling.records, "write_sealed", killed)
        with pytest.raises(KeyboardInterrupt):
            writer.write(BLOCKS[2], torch.zeros(4, 6))
    writer = begin(tmp_path / "x.zarr", TOPK)
    assert not writer.has(BLOCKS[2])
    write(writer, BLOCKS[2:])
    writer.finish()
    assert content(tmp_path / "x.zarr") == content(finished["topk"])


@pytest.mark.parametrize("row", [UINT8, ANCHORED], ids=["uint8", "anchored"])
def test_what_is_lost_or_damaged_in_unfinished_work_is_made_again(
    finished: dict[str, Path], tmp_path: Path, row: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.zarr"
    write(begin(path, row), BLOCKS[:4])
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file() and file.name != "zarr.json")
    files = [file for file in files if file.name != "begun.json"]
    assert len(files) > 8  # ids, canaries, blocks and their records
    for number, file in enumerate(files):
        before = file.read_bytes()
        (remove, flip, empty)[number % 3](file)
        writer = begin(path, row)
        left = [block for block in BLOCKS if not writer.settle(block)]
        write(writer, [block for block in left if block in BLOCKS[:4]])
        assert file.read_bytes() == before, file
    assert "was lost or damaged since it was written: made again" in capsys.readouterr().err
    writer = begin(path, row)
    write(writer, BLOCKS[4:])
    writer.finish()
    assert content(path) == content(finished[NAMES[json.dumps(row)]])


def test_a_writer_killed_while_it_began_begins_again(
    finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, left, kills = pipeline.labelling.writer.ArrayGroup.create_array, iter(()), 0

    def create_some(*arguments: Any, **named: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        create(*arguments, **named)

    while kills < 99:
        try:
            with monkeypatch.context() as patch:
                left = iter(range(kills))
                patch.setattr(pipeline.labelling.writer.ArrayGroup, "create_array", create_some)
                begin(tmp_path / "x.zarr", TOPK)
        except KeyboardInterrupt:
            kills += 1
            with pytest.raises(StoreError):
                StoreReader(tmp_path / "x.zarr")
        else:
            break
    assert kills > 3
    writer = begin(tmp_path / "x.zarr", TOPK)
    write(writer, BLOCKS)
    writer.finish()
    assert content(tmp_path / "x.zarr") == content(finished["topk"])


def test_blocks_may_be_written_in_any_order_by_several_writers(finished: dict[str, Path], tmp_path: Path) -> None:
    writers = [begin(tmp_path / "x.zarr", TOPK) for _ in range(2)]
    for number, block in enumerate(reversed(BLOCKS)):
        write(writers[number % 2], [block])
    writers[1].finish()
    assert content(tmp_path / "x.zarr") == content(finished["topk"])


def test_records_of_a_store_that_is_gone_do_not_speak_for_a_new_one(finished: dict[str, Path], tmp_path: Path) -> None:
    """A process that was killed while it published leaves its records without their store."""
    make(tmp_path / "x.zarr", UINT8)
    shutil.rmtree(tmp_path / "x.zarr")
    writer = begin(tmp_path / "x.zarr", UINT8)
    assert not any(writer.has(block) for block in BLOCKS)
    write(writer, BLOCKS)
    writer.finish()
    assert content(tmp_path / "x.zarr") == content(finished["uint8"])


def test_a_finished_store_that_is_begun_anew_is_unfinished(copy: Copy, tmp_path: Path) -> None:
    path = copy(UINT8)
    writer = begin(path, UINT8, temperature=2.0)
    with pytest.raises(StoreError, match="is unfinished"):
        StoreReader(path)
    write(writer, BLOCKS)
    assert writer.finish().temperature == 2
    assert content(path) == content(make(tmp_path / "y.zarr", UINT8, temperature=2.0).path)


def test_every_block_reaches_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, flushed = begin(tmp_path / "x.zarr", UINT8), set()
    monkeypatch.setattr(
        "pipeline.core.arrays.os.fsync", lambda handle: flushed.add(Path(f"/proc/self/fd/{handle}").readlink())
    )
    write(writer, BLOCKS)
    assert {file.resolve() for file in shards(tmp_path / "x.zarr", "log_prob_codes")} <= flushed


@pytest.mark.parametrize("missing", [1, 5])
def test_a_store_is_not_finished_while_a_block_is_missing(tmp_path: Path, missing: int) -> None:
    writer, left_out = begin(tmp_path / "x.zarr", UINT8), BLOCKS[missing]
    write(writer, [block for block in BLOCKS if block != left_out])
    with pytest.raises(StoreError, match=f"block {left_out.name} is missing; run the dump again"):
        writer.finish()
    with pytest.raises(StoreError, match="is unfinished"):
        StoreReader(tmp_path / "x.zarr")


# No damage is silent.


@EACH_KIND
@pytest.mark.parametrize("damage", [remove, cut, empty, flip])
def test_a_damaged_block_is_refused_by_name(copy: Copy, row: Row, damage: Damage) -> None:
    path = copy(row)
    for field in fields_of(row):
        file = file_of(path, row, field, "1/1")
        whole = file.read_bytes()
        damage(file)
        reader = StoreReader(path)
        reader.read_view(0)
        reader.read_view(1, BLOCKS[3].rows)
        place = rf"x\.zarr/{field}.*" + (BLOCKS[4].name if damage in {remove, empty} else "damaged")
        with pytest.raises(StoreError, match=place) as caught:
            reader.read_view(1)
        assert "\n" not in str(caught.value)
        assert [block for block, fault in reader.check() if fault] == [BLOCKS[4]]
        file.write_bytes(whole)
    assert is_sound(StoreReader(path))


@pytest.mark.parametrize("damage", [remove, cut, flip])
def test_damaged_anchors_are_refused_by_name_and_made_again(
    finished: dict[str, Path], copy: Copy, damage: Damage
) -> None:
    path, rows = copy(ANCHORED), range(8, 16)
    damage(path / "anchor_steps/c/1/0")
    reader = StoreReader(path)
    reader.read_view(1, range(8))
    for view_index in range(2):
        with pytest.raises(StoreError, match=r"x\.zarr/anchor_steps.*(block anchors, samples 8 to 15|damaged)"):
            reader.read_view(view_index)
    assert [block for block, fault in reader.check() if fault] == [AnchorBlock(rows)]
    assert reader.replace_anchors(AnchorBlock(rows), make_anchors(reader.codec, mean_of(reader, rows)))
    assert content(path) == content(finished["anchored"])


def test_labels_do_not_outlive_the_anchors_that_they_stand_on(copy: Copy) -> None:
    path, rows = copy(ANCHORED), range(8, 16)
    reader = StoreReader(path)
    assert not reader.replace_anchors(AnchorBlock(rows), make_anchors(reader.codec, mean_of(reader, rows, seed=1)))
    assert [block for block, fault in StoreReader(path).check() if fault] == [BLOCKS[1], BLOCKS[4]]
    assert replace_all(path, [1, 4]) == [False, False]
    assert is_sound(StoreReader(path))


def test_labels_of_other_anchors_are_made_again(tmp_path: Path) -> None:
    """Another machine may round anchors that were damaged otherwise."""
    path = tmp_path / "x.zarr"
    write(begin(path, ANCHORED), BLOCKS)
    remove(path / "anchor_steps/c/1/0")
    writer = begin(path, ANCHORED)
    writer.write_anchors(range(8, 16), mean_of(writer, range(8, 16), seed=1))
    assert [writer.settle(block) for block in BLOCKS] == [True, False, True] * 2
    with pytest.raises(StoreError, match="block view 0, samples 8 to 15 is missing"):
        writer.finish()


BESIDE = (*TABLES, *FIDELITY, "block_digest", "sample_key", "canary_sample_ids", "canary_views", "canary_pixels")


def refusal(path: Path, array: str, damage: Damage) -> str:
    """Returns what is said of a store with damage to an array; the damage is undone."""
    (file,) = shards(path, array)
    whole = file.read_bytes()
    damage(file)
    try:
        StoreReader(path).check_whole()
    except StoreError as error:
        return str(error)
    finally:
        file.write_bytes(whole)
    return ""


@pytest.mark.parametrize("array", [*BESIDE, "anchor_digest"])
def test_damage_beside_the_blocks_is_refused_by_name(copy: Copy, array: str) -> None:
    path = copy(ANCHORED if array == "anchor_digest" else TOPK)
    for damage in (remove, cut, flip):
        assert f"x.zarr/{array}" in refusal(path, array, damage)
        assert "\n" not in refusal(path, array, damage)
    StoreReader(path).check_whole()


def test_an_emptied_file_beside_the_blocks_is_refused_by_name(copy: Copy) -> None:
    path = copy(TOPK)
    assert all(f"x.zarr/{array}" in refusal(path, array, empty) for array in BESIDE)


def test_a_lost_array_is_refused_by_name(copy: Copy, tmp_path: Path) -> None:
    path = copy(TOPK)
    for array in (*BESIDE, *fields_of(TOPK)):
        (path / array).rename(tmp_path / "aside")
        with pytest.raises(StoreError, match=rf"x\.zarr/{array}: no such array"):
            StoreReader(path).check_whole()
        (tmp_path / "aside").rename(path / array)
    StoreReader(path).check_whole()


@EACH_KIND
def test_no_flipped_bit_passes(copy: Copy, row: Row) -> None:
    path = copy(row)
    reader = StoreReader(path)
    reads: dict[Path, Callable[[], object]] = {
        shards(path, fields_of(row)[-1])[0]: lambda: reader.read_view(0, range(8)),
        shards(path, "sample_key")[0]: lambda: StoreReader(path),
        shards(path, "canary_sample_ids")[0]: lambda: StoreReader(path),
        shards(path, "block_digest")[0]: lambda: StoreReader(path),
        shards(path, "fidelity_nats")[0]: lambda: reader.fidelity_parts,
    }
    if row == TOPK:
        reads |= {shards(path, name)[0]: lambda: StoreReader(path) for name in TABLES}
    for file, read in reads.items():
        data = file.read_bytes()
        for position in range(0, len(data), 11):
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            file.write_bytes(bytes(flipped))
            with pytest.raises(StoreError):
                read()
        file.write_bytes(data)
        read()


@EACH_KIND
@pytest.mark.parametrize(
    ("one", "other", "faulty"),
    [("0/0", "0/1", [0, 1]), ("0/1", "1/1", [1, 4]), ("1/2", "0/2", [2, 5])],
    ids=["in a view", "between views", "short ones"],
)
def test_blocks_that_changed_places_are_found(copy: Copy, row: Row, one: str, other: str, faulty: list[int]) -> None:
    """All checksums are right then, and so are all sizes."""
    path = copy(row)
    for field in fields_of(row):
        swap(file_of(path, row, field, one), file_of(path, row, field, other))
    reader = StoreReader(path)
    assert [block for block, fault in reader.check() if fault] == [BLOCKS[number] for number in faulty]
    for number in faulty:
        named = rf"x\.zarr: block {BLOCKS[number].name} is not what was written \(its digest.*labels repair"
        with pytest.raises(StoreError, match=named):
            reader.read_view(BLOCKS[number].view_index, BLOCKS[number].rows)
    with pytest.raises(StoreError, match=f"block {BLOCKS[faulty[0]].name}"):
        reader.read_view(BLOCKS[faulty[0]].view_index)


def test_a_block_of_another_view_or_store_is_found_even_in_one_field(copy: Copy, tmp_path: Path) -> None:
    path = copy(TOPK)
    other = make(tmp_path / "other.zarr", TOPK, seed=1).path
    for field in fields_of(TOPK):
        place = path / field / "c/1/1/0"
        whole = place.read_bytes()
        for source in (path / field / "c/0/1/0", other / field / "c/1/1/0"):
            shutil.copy(source, place)
            assert [block for block, fault in StoreReader(path).check() if fault] == [BLOCKS[4]]
        place.write_bytes(whole)


@pytest.mark.parametrize("array", [name for name in BESIDE if not name.startswith("fidelity_")])
def test_an_array_of_another_store_of_the_same_shape_is_refused(copy: Copy, tmp_path: Path, array: str) -> None:
    path = copy(TOPK)
    other = make(tmp_path / "other.zarr", TOPK, take(range(19, -1, -1)), seed=1).path
    if content(path / array) == content(other / array):  # canaries are taken from view after view in any store
        assert array == "canary_views"
        return
    shutil.rmtree(path / array)
    shutil.copytree(other / array, path / array)
    with pytest.raises(StoreError, match=r"x\.zarr: .* are not what was written"):
        StoreReader(path)


@pytest.mark.parametrize("array", FIDELITY)
@pytest.mark.parametrize("size", [20, 60], ids=["same shape", "more parts"])
def test_fidelity_of_another_store_is_not_taken_for_this_ones(
    copy: Copy, tmp_path: Path, array: str, size: int
) -> None:
    path = copy(UINT8)
    other = make(tmp_path / "other.zarr", UINT8, make_split(size), seed=0 if size != 20 else 7).path
    before = content(path / array)
    shutil.rmtree(path / array)
    shutil.copytree(other / array, path / array)
    if content(path / array) != before:
        with pytest.raises(StoreError, match=r"its fidelity is not that of its parts|its shape does not fit"):
            StoreReader(path).check_whole()


def test_a_manifest_that_flatters_itself_is_found_out(copy: Copy) -> None:
    path = copy(TOPK)

    def flatter(manifest: dict[str, Any]) -> None:
        manifest["fidelity"]["kl_nats"]["4"]["mean"] *= 0.9
        sign(manifest)

    edit_manifest(path, flatter)
    reader = StoreReader(path)
    assert all(fault is None for _, fault in reader.check())
    with pytest.raises(StoreError, match=r"x\.zarr: its fidelity is not that of its parts"):
        reader.check_whole()
    edit_manifest(path, lambda manifest: (manifest.update(fidelity=None), sign(manifest)))
    with pytest.raises(StoreError, match=r"x\.zarr: its fidelity is not that of its parts"):
        StoreReader(path).check_whole()


def test_a_check_lists_every_faulty_block_and_no_other(copy: Copy) -> None:
    path = copy(UINT8)
    assert [fault for _, fault in StoreReader(path).check()] == [None] * 6
    remove(path / "log_prob_codes/c/0/2/0")
    flip(path / "log_prob_codes/c/1/0/0")
    cut(path / "log_prob_codes/c/1/1/0")
    checked = list(StoreReader(path).check())
    assert [block for block, _ in checked] == BLOCKS
    assert [block for block, fault in checked if fault] == [BLOCKS[i] for i in (2, 3, 4)]
    assert f"block {BLOCKS[2].name} is missing" in str(checked[2][1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="other"), "not a soft-label store; expected format 'potstill-soft-labels'"),
        (lambda m: m.clear(), "not a soft-label store"),
        (lambda m: m.update(version=3), "format version 3, newer than this program; .*update Potstill"),
        (lambda m: m.update(colour="red"), r"manifest can't be read \(manifest\.colour: unknown key"),
        (lambda m: m.update(complete=False), "is unfinished"),
        (lambda m: m.update(num_samples=21), r"shape \(2, 20, 6\) .*; expected shape \(2, 21, 6\)"),
        (lambda m: m.update(view_numbers=[0, 1, 2]), r"shape \(2, 20, 6\) .*; expected shape \(3, 20, 6\)"),
        (lambda m: m["class_names"].append("g"), r"shape \(2, 20, 6\) .*; expected shape \(2, 20, 7\)"),
        (
            lambda m: m.update(block_samples=4),
            r"x\.zarr/log_prob_codes: .* in files of \(1, 8, 6\); expected .* each 4 rows",
        ),
        (lambda m: m.update(encoding=FLOAT16), r"x\.zarr/log_probs: no such array"),
        (
            lambda m: m.update(encoding={"kind": "topk9"}),
            r"x\.zarr: its manifest can't be used \(encoding\.kind: 'topk9'",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    copy: Copy, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = copy(UINT8)
    edit_manifest(path, lambda manifest: (change(manifest), sign(manifest)))
    with pytest.raises(PipelineError, match=message) as caught:
        StoreReader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_declared_temperatures_do_not_fit_a_topk_stores_arrays(copy: Copy) -> None:
    path = copy(TOPK)
    edit_manifest(path, lambda manifest: (manifest.update(temperatures=[1.0, 2.0]), sign(manifest)))
    with pytest.raises(StoreError, match=r"x\.zarr/tail_steps: shape \(2, 20, 2\) .*; expected shape \(2, 20, 1\)"):
        StoreReader(path)


@pytest.mark.parametrize(("key", "value"), [("temperature", 3.0), ("teacher", {"fingerprint": "x"}), ("views", {})])
def test_a_manifest_that_was_changed_afterwards_is_refused(copy: Copy, key: str, value: object) -> None:
    path = copy(UINT8)
    edit_manifest(path, lambda manifest: manifest.update({key: value}))
    with pytest.raises(StoreError, match=r"x\.zarr: its manifest is not as it was written"):
        StoreReader(path)


@pytest.mark.parametrize(
    "file", ["zarr.json", *(f"{array}/zarr.json" for array in ("sample_key", "classes", "prior_codes", "block_digest"))]
)
@pytest.mark.parametrize("damage", [remove, empty, cut])
def test_lost_or_damaged_metadata_is_one_error(copy: Copy, file: str, damage: Damage) -> None:
    path = copy(TOPK)
    damage(path / file)
    with pytest.raises(StoreError, match=str((path / file).parent)):
        StoreReader(path)


def test_a_store_that_is_not_there_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"y\.zarr: no such folder; run `dvc repro dump_labels`"):
        StoreReader(tmp_path / "y.zarr")


# A block is written again.


def replace_all(path: Path, numbers: list[int], seed: int = 0) -> list[bool]:
    """Writes some blocks of a store again as teacher `seed` labels them."""
    reader, results = StoreReader(path), []
    for block in (BLOCKS[number] for number in numbers):
        logits = block_logits(reader, block, seed)
        ids = SPLIT.sample_ids[block.rows.start : block.rows.stop]
        labels = encode_logits(reader.codec, logits, ids, block.view, reader.read_anchors(block.rows))
        results.append(reader.replace_block(block, labels, measure_labels(reader.codec, logits, labels)))
    return results


@EACH_KIND
@pytest.mark.parametrize("damage", [remove, cut, flip])
def test_a_lost_block_that_is_labelled_alike_makes_the_store_what_it_was(
    finished: dict[str, Path], copy: Copy, row: Row, damage: Damage
) -> None:
    path = copy(row)
    for field in fields_of(row):
        damage(file_of(path, row, field, "0/1"))
    damage(file_of(path, row, fields_of(row)[0], "1/2"))
    assert [block for block, fault in StoreReader(path).check() if fault] == [BLOCKS[1], BLOCKS[5]]
    assert replace_all(path, [1, 5]) == [True, True]
    assert content(path) == content(finished[NAMES[json.dumps(row)]])


def test_blocks_that_changed_places_are_put_right(finished: dict[str, Path], copy: Copy) -> None:
    path = copy(UINT8)
    swap(path / "log_prob_codes/c/0/1/0", path / "log_prob_codes/c/1/1/0")
    assert replace_all(path, [1, 4]) == [True, True]
    assert content(path) == content(finished["uint8"])


@EACH_KIND
def test_a_block_that_is_labelled_otherwise_takes_digest_fidelity_and_manifest_with_it(copy: Copy, row: Row) -> None:
    path = copy(row)
    before = StoreReader(path).manifest
    remove(file_of(path, row, fields_of(row)[0], "1/0"))
    assert replace_all(path, [3, 0], seed=1) == [False, False]
    reader = StoreReader(path)
    assert is_sound(reader)
    assert reader.manifest.fidelity == Fidelity.merge(reader.fidelity_parts).summary() != before.fidelity
    for number, block in enumerate(BLOCKS):
        labels = reader.read_view(block.view_index, block.rows)
        logits = block_logits(reader, block, seed=1 if number in {0, 3} else 0)
        assert reader.fidelity_parts[number] == measure_labels(reader.codec, logits, labels)
    assert replace_all(path, [3, 0], seed=1) == [True, True]
    assert reader.manifest == StoreReader(path).manifest


def test_the_reader_that_replaced_a_block_knows_the_new_manifest(copy: Copy) -> None:
    reader = StoreReader(copy(UINT8))
    logits = block_logits(reader, BLOCKS[0], seed=1)
    labels = encode_logits(reader.codec, logits, SPLIT.sample_ids[:8], 0)
    reader.replace_block(BLOCKS[0], labels, measure_labels(reader.codec, logits, labels))
    assert reader.manifest == StoreReader(reader.path).manifest
    assert is_sound(reader)


def copied(path: Path, row: Row, order: list[int]) -> StoreReader:
    """Makes a store whose blocks were copied from elsewhere and whose fidelity is of the parts that
    were made there.
    """
    source = make(path.with_name("source.zarr"), row)
    manifest = manifest_of(row)
    canaries = make_canaries(SPLIT, SPEC, range(2), 6)
    inherited = [source.fidelity_parts[number] for number in order]
    records = path.with_suffix(".records")
    tables = source.tables
    writer = pipeline.labelling.writer.StoreWriter(path, records, manifest, SPLIT.sample_ids, canaries, tables)
    for block in BLOCKS:
        writer.write_labels(block, source.read_view(block.view_index, block.rows), None)
    writer.finish(inherited)
    return StoreReader(path)


def test_inherited_fidelity_is_not_taken_for_that_of_the_blocks(tmp_path: Path) -> None:
    """However many parts there are and in whatever order they came: the figures stay those of the
    parts.
    """
    reader = copied(tmp_path / "x.zarr", UINT8, [3, 4, 5, 0, 1, 2])
    assert reader.manifest.fidelity == StoreReader(tmp_path / "source.zarr").manifest.fidelity
    assert is_sound(reader)
    assert replace_all(tmp_path / "x.zarr", [0], seed=1) == [False]
    reader = StoreReader(tmp_path / "x.zarr")
    assert is_sound(reader)
    assert reader.manifest.fidelity == StoreReader(tmp_path / "source.zarr").manifest.fidelity


def test_a_store_without_labels_at_some_temperature_has_no_part_for_it(tmp_path: Path) -> None:
    reader = make(tmp_path / "x.zarr", SAMPLED, temperatures=[4.0, 1.0])
    assert reader.codec_temperatures == [1.0]
    assert [list(part.by_temperature) for part in reader.fidelity_parts] == [["1"]] * 6


# Plain functions.


def test_gathered_labels_are_the_rows_that_were_asked_for(finished: dict[str, Path]) -> None:
    for name in LABELLED:
        labels = StoreReader(finished[name]).read_view(0)
        for rows in ([3, 1, 1], np.array([3, 1, 1]), torch.tensor([3, 1, 1]), range(2, 5), np.empty(0, np.int64)):
            some = gather(labels, rows)
            assert all(torch.equal(some[field], labels[field][torch.as_tensor(np.asarray(rows))]) for field in labels)


def test_the_rest_and_a_prior_store_the_same_classes_and_masses(finished: dict[str, Path]) -> None:
    """What is kept does not depend on how a reader spreads the tail; class numbers do."""
    prior, rest = StoreReader(finished["topk"]), StoreReader(finished["rest"])
    one, other = prior.read_view(1), rest.read_view(1)
    assert torch.equal(one["log_prob_codes"], other["log_prob_codes"])
    assert not torch.equal(one["classes"], other["classes"])
    assert prior.manifest.encoding == TOPK
    assert rest.manifest.encoding == REST
    assert prior.codec_temperatures == TEMPERATURES
