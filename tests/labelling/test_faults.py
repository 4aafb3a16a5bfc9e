"""The faults that a dump and its stores survive: killed and stopped workers, a full disk, flipped
bits, lost files.
"""

import errno
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import zarr
from faults import (
    Site,
    SmallDisk,
    die,
    die_at,
    ended,
    fork,
    make_teacher,
    own_disk,
    resize_disk,
    wait_for,
    write_teacher,
)
from project import files_of
from stores import ANCHORED, SPLIT, TOPK, UINT8, Row, make

from pipeline.core.errors import PipelineError, StoreError, one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.labelling import run as run_dump
from pipeline.labelling.settings import VerifyLabels
from pipeline.labelling.verify import verify_store
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.reader import StoreReader
from stages import repair_labels

NUM_BLOCKS = 12
NO_OWN_DISK = 77


#: Stores without anchors, and one whose anchors are made of two views beside one without.
EACH_PAIR = pytest.mark.parametrize(
    "made", [("dense8", "top2"), ("anchored", "top2")], ids=["plain", "anchored"], indirect=True
)


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes data and a teacher, for two stores."""
    encodings = getattr(request, "param", ("dense8", "top2"))
    return make_teacher(tmp_path_factory.mktemp("made"), encodings, num_views=3, block_samples=60, batch_size=32)


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Returns an undisturbed dump by one process."""
    site = Site(made, tmp_path_factory.mktemp("whole"))
    assert site.run() == 0, site.said.read_text()
    assert len(site.computed()) == len(set(site.computed())) == NUM_BLOCKS
    return site


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    return Site(made, tmp_path / "site")


def is_as(site: Site, whole: Site) -> bool:
    """Returns whether a dump ended as the undisturbed one did, with nothing of it left
    elsewhere."""
    assert set(site.computed()) == set(whole.computed())
    assert not list(site.work.glob("dump_labels-*"))
    assert not list(site.work.glob("dump_labels.claims/*"))
    return files_of(site.out) == files_of(whole.out)


# Killed.


def slowly(count: int) -> None:
    """Makes a teacher slow enough to be caught at work."""
    time.sleep(0.03)


@EACH_PAIR
def test_fifteen_kills_end_in_the_same_bytes(whole: Site, site: Site) -> None:
    lost_at_once = 2 if "anchored.zarr" in {store.name for store in whole.out.iterdir()} else 1  # blocks
    started = time.monotonic()
    assert site.run(slowly) == 0
    pause = (time.monotonic() - started) / 4
    rng = random.Random(0)
    phases: Counter[str] = Counter()
    while phases.total() < 15:
        site.forget()
        before = phases.total()
        live = [site.start(f"{i}/3", slowly) for i in range(3)]
        next_kill = time.monotonic() + rng.random() * pause
        while live:
            time.sleep(0.002)
            for process in list(live):
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    assert status == 0, site.said.read_text()
                    live.remove(process)
            if not live or phases.total() == 15 or time.monotonic() < next_kill:
                continue
            live.remove(victim := rng.choice(live))
            os.kill(victim, signal.SIGKILL)
            if ended(victim) == -signal.SIGKILL:
                phases[phase(site)] += 1
                live.append(site.start(f"{rng.randrange(3)}/3", slowly))
                next_kill = time.monotonic() + rng.random() * pause
        assert is_as(site, whole)
        assert len(site.computed()) <= NUM_BLOCKS + lost_at_once * (phases.total() - before)
    print(f"kills: {dict(phases)}")


def phase(site: Site) -> str:
    """Returns how far a dump has got."""
    if site.out.exists():
        return "published"
    if len(list(site.work.glob("*/records/*/begun.json"))) < 2:
        return "begin"
    written = len(list(site.work.glob("*/records/*/*-*.json")))
    return "blocks" if written < 2 * NUM_BLOCKS else "finish"


def test_killed_at_steps_of_its_beginning(whole: Site, site: Site) -> None:
    kills = sorted(random.Random(0).sample(range(60), 8))
    for step in kills:
        assert site.run(first=lambda step=step: die_at(step)) == -signal.SIGKILL  # type: ignore[misc]
    assert site.run() == 0, site.said.read_text()
    assert len(site.computed()) <= NUM_BLOCKS + len(kills)
    assert is_as(site, whole)


@pytest.mark.parametrize("made", [("vectors", "dense8")], ids=["of two signals"], indirect=True)
def test_a_killed_dump_of_embeddings_goes_on(whole: Site, site: Site) -> None:
    for count in (1, 4):
        assert site.run(lambda begun, count=count: die() if begun == count else None) == -signal.SIGKILL  # type: ignore[misc]
    assert site.run() == 0, site.said.read_text()
    assert len(site.computed()) <= NUM_BLOCKS + 4  # the block at work, and the one that was being written
    assert is_as(site, whole)
    assert StoreReader(site.out / "vectors.zarr").manifest.is_of_embeddings


@pytest.mark.parametrize("made", [("anchored", "top2")], indirect=True)
def test_killed_after_its_last_block_at_any_step(made: Path, whole: Site, tmp_path: Path) -> None:
    unfinished = Site(made, tmp_path / "unfinished")
    assert unfinished.run(first=lambda: setattr(StoreWriter, "finish", die)) == -signal.SIGKILL
    assert len(unfinished.computed()) == NUM_BLOCKS

    def go_on(name: str) -> Site:
        return Site(made, Path(shutil.copytree(tmp_path / "unfinished", tmp_path / name)))

    log = tmp_path / "steps.txt"
    assert go_on("whole").run(first=lambda: die_at(-1, log)) == 0
    steps = log.read_text().splitlines()
    marked = next(i for i, line in enumerate(steps) if line.startswith("replace") and line.endswith(".done.json"))
    moved = next(i for i, line in enumerate(steps) if line.startswith("rename") and line.endswith("data/dump_labels"))
    rng = random.Random(0)
    chosen = {*rng.sample(range(marked), 3), marked, moved, moved + 1}
    chosen |= {*rng.sample(range(moved + 2, len(steps)), 2), len(steps) - 1}
    for step in sorted(chosen):
        site = go_on(str(step))
        assert site.run(first=lambda step=step: die_at(step)) == -signal.SIGKILL, steps[step]  # type: ignore[misc]
        assert site.run() == 0, site.said.read_text()
        assert is_as(site, whole), steps[step]
        assert len(site.computed()) == NUM_BLOCKS, steps[step]


def test_a_dump_that_dvc_removed_comes_back_without_the_teacher(whole: Site, site: Site) -> None:
    """A process killed after it has published, before DVC has heard of it: DVC removes the output
    and runs it again.
    """
    assert site.run() == 0
    shutil.rmtree(site.out)
    assert site.run() == 0, site.said.read_text()
    assert len(site.computed()) == NUM_BLOCKS
    assert is_as(site, whole)


# Several at once.


@EACH_PAIR
@pytest.mark.parametrize("num_workers", [2, 4])
def test_workers_that_want_the_same_blocks_at_the_same_time(whole: Site, site: Site, num_workers: int) -> None:
    ready, go = os.pipe(), os.pipe()
    real = run_dump.dump_labels

    def together(*arguments: Any) -> None:
        os.write(ready[1], b"r")
        os.close(go[1])
        os.read(go[0], 1)  # ends when the last one has closed it
        real(*arguments)

    workers = [site.start(first=lambda: setattr(run_dump, "dump_labels", together)) for _ in range(num_workers)]
    for _ in workers:
        os.read(ready[0], 1)
    for handle in (*go, *ready):
        os.close(handle)
    assert [ended(worker) for worker in workers] == [0] * num_workers, site.said.read_text()
    assert sorted(site.computed()) == sorted(whole.computed())
    assert is_as(site, whole)


def test_a_stopped_worker_keeps_its_block_until_it_dies(whole: Site, site: Site) -> None:
    def stop(count: int) -> None:
        if count == 3:
            os.kill(os.getpid(), signal.SIGSTOP)

    stopped = site.start(on_block=stop)
    os.waitpid(stopped, os.WUNTRACED)
    held = site.computed()[-1]
    other = site.start()
    wait_for(lambda: len(site.computed()) == NUM_BLOCKS)
    time.sleep(0.5)
    assert os.waitpid(other, os.WNOHANG) == (0, 0), "it waits"
    assert not site.out.exists()
    assert len(site.computed()) == len(set(site.computed()))
    os.kill(stopped, signal.SIGKILL)
    assert ended(stopped) == -signal.SIGKILL
    assert ended(other) == 0, site.said.read_text()
    assert site.computed()[NUM_BLOCKS:] == [held]
    assert is_as(site, whole)


# A full disk.


def nothing_is_torn(site: Site, whole: Site) -> bool:
    """Returns whether every file of unfinished stores that has a name has its content, and the rest
    is gone; except what several writes of zarr's leave that fail at once, which is swept before
    stores are published.
    """
    finished = files_of(whole.out)
    written = {
        name: data
        for name, data in site.written().items()
        if name not in {"dense8.zarr/zarr.json", "top2.zarr/zarr.json"} and not name.endswith(".partial")
    }
    return not site.out.exists() and all(finished.get(name) == data for name, data in written.items())


def told(site: Site, what: str) -> bool:
    """Returns whether the last run ended with one line that says what and what to do."""
    lines = site.said.read_text().splitlines()
    site.said.unlink()
    mine = [line for line in lines if not line.startswith("dump_labels:")]
    return len(mine) == 1 and what in mine[0] and "free space, then run the same command to go on" in mine[0]


FULL = os.strerror(errno.ENOSPC)


def test_a_disk_that_fills_up_time_and_again(whole: Site, site: Site) -> None:
    rng = random.Random(0)
    for num_bytes in (0, 5000):
        assert site.run(first=SmallDisk(num_bytes).use) == 1
        assert told(site, FULL)
        assert nothing_is_torn(site, whole)
    for num_runs in range(1, 5):
        disk, at = SmallDisk(rng.randrange(3000)), rng.randrange(1, 4)
        assert site.run(lambda count, disk=disk, at=at: disk.use() if count == at else None) == 1  # type: ignore[misc]
        assert told(site, FULL)
        assert nothing_is_torn(site, whole)
        assert len(set(site.computed())) >= len(site.computed()) - num_runs
    real = StoreWriter.finish

    def finish(writer: StoreWriter) -> Any:
        SmallDisk(2000).use()
        return real(writer)

    assert site.run(first=lambda: setattr(StoreWriter, "finish", finish)) == 1
    assert told(site, FULL)
    assert len(site.computed()) <= NUM_BLOCKS + 4
    assert site.run() == 0, site.said.read_text()
    assert len(site.computed()) <= NUM_BLOCKS + 4
    assert is_as(site, whole)


def test_a_real_disk_that_fills_up(whole: Site, site: Site) -> None:
    disk = site.work.parent

    def work() -> None:
        try:
            own_disk(disk, "40k")
        except OSError as error:
            raise SystemExit(NO_OWN_DISK) from error
        mine = Site(site.made, disk)
        for size in ("100k", "200k", "300k"):
            resize_disk(disk, size)
            with pytest.raises(SystemExit), one_line_errors():
                mine.dump()
            assert nothing_is_torn(mine, whole)
        assert mine.computed()
        resize_disk(disk, "10m")
        mine.dump()
        assert files_of(mine.out) == files_of(whole.out)

    said = site.work.parent.parent / "said.txt"
    status = ended(fork(work, said))
    if status == NO_OWN_DISK:
        pytest.skip("no disk of one's own without root here")
    assert status == 0, said.read_text()
    assert said.read_text().count(FULL) == 3


def test_a_file_that_may_not_grow(whole: Site, site: Site) -> None:
    """The kernel itself writes the first bytes of a block and refuses the others."""

    def limit(count: int) -> None:
        if count == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    def work() -> None:
        try:
            site.dump(on_block=limit)
        except OSError as error:
            raise SystemExit(error.errno) from error

    assert ended(fork(work, site.said)) == errno.EFBIG, site.said.read_text()
    assert nothing_is_torn(site, whole)
    assert len(site.computed()) == 4
    assert site.run() == 0, site.said.read_text()
    assert len(site.computed()) == NUM_BLOCKS + 1
    assert is_as(site, whole)


# Damaged.


VERIFY = VerifyLabels(num_labels=10, seed=0, kl_tolerance_nats=0.0, accuracy_tolerance=0.0, batch_size=10, device="cpu")
UNREADABLE = (PipelineError, ArithmeticError, LookupError, TypeError, ValueError)


def read_all(path: Path) -> dict[str, Any]:
    """Returns everything that a reader gets from a store, as bytes."""
    store = StoreReader(path)
    read: dict[str, Any] = {"manifest": asdict(store.manifest), "ids": store.samples.keys.tobytes()}
    read |= {field.name: getattr(store.canaries, field.name).tobytes() for field in fields(store.canaries)}
    read |= {name: table.tobytes() for name, table in store.tables.items()}
    read["parts"] = [part.to_dict() for part in store.fidelity_parts]
    for view in range(store.manifest.num_views):
        labels = store.read_view(view)
        read |= {f"{name} {view}": values.numpy().tobytes() for name, values in labels.items()}
        read |= {f"{t} {view}": store.decode(labels, t).numpy().tobytes() for t in store.codec_temperatures}
    return read


def parsed(folder: Path) -> Any:
    """Returns what a zarr.json says of data that is there: not how lost files read, nor how hard to
    compress.
    """

    def known(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: known(value) for name, value in node.items() if name not in {"fill_value", "level"}}
        return [known(value) for value in node] if isinstance(node, list | tuple) else node

    return known(zarr.open(folder, mode="r").metadata.to_dict())


def how_found(path: Path, file: Path, expected: dict[str, Any], before: Any) -> str:
    """Returns how damage to a file shows: the first word of its fault that says so.

    Fails where a reader gets anything but what was written, or where what `verify_labels
    --no-teacher` does not find means anything to Zarr."""
    found = verify_store(path, None, SPLIT, VERIFY).faults
    assert all(fault.startswith(str(path)) and "\n" not in fault for fault in found), found
    try:
        read = read_all(path)
    except UNREADABLE:
        read = {}
    labels = {name: value for name, value in read.items() if name not in {"sample_ids", "views", "pixels", "parts"}}
    assert labels.items() <= expected.items(), f"{file}: read as something else"
    if found:
        words = ("not a readable", "no such array", "damaged", "missing", "lacks", "shape", "fingerprint")
        return next((word for word in words if word in found[0]), "something else")
    assert read == expected, f"{file}: can't be read, or as something else, and verify_labels does not see it"
    assert file.name == "zarr.json", f"{file}: verify_labels does not see it"
    assert parsed(file.parent) == before, f"{file}: verify_labels does not see it"
    return "not at all: bytes that mean nothing"


@pytest.mark.parametrize(("row", "num_flips"), [(UINT8, 30), (TOPK, 30), (ANCHORED, 40)])
def test_a_flipped_bit_is_found(row: Row, num_flips: int, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    make(path, row)
    expected = read_all(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    before = {file: parsed(file.parent) for file in files if file.name == "zarr.json"}
    rng = random.Random(0)
    how: Counter[str] = Counter()
    while how.total() < num_flips:
        whole = (file := rng.choice(files)).read_bytes()
        place = rng.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        how[how_found(path, file, expected, before.get(file))] += 1
        file.write_bytes(whole)
    print(f"flipped bits, by how they are found: {dict(how)}")
    assert how["not at all: bytes that mean nothing"] < 10
    assert read_all(path) == expected


@pytest.mark.parametrize("array", ["sample_key", "tail_offsets"])
def test_a_flipped_separator_is_not_read_over(array: str, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    make(path, TOPK)
    expected = read_all(path)
    file = path / array / "zarr.json"
    before = parsed(file.parent)
    file.write_bytes(file.read_bytes().replace(b'"separator": "/"', b'"separator": "."'))
    how_found(path, file, expected, before)


@pytest.mark.parametrize("row", [TOPK, ANCHORED])
def test_a_lost_file_is_found(row: Row, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    make(path, row)
    expected = read_all(path)
    how: Counter[str] = Counter()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        file.rename(tmp_path / "aside")
        how[how_found(path, file, expected, None)] += 1
        (tmp_path / "aside").rename(file)
    print(f"lost files, by how they are found: {dict(how)}")
    assert "not at all: bytes that mean nothing" not in how
    assert read_all(path) == expected


# Repaired.


def damage_three(store: Path) -> None:
    """Damages three blocks of a store: a bit, a file, an end."""
    one, two, three = (
        store / next(iter(StoreReader(store).encoding.fields(StoreReader(store).manifest.space))) / "c" / place
        for place in ("0/1/0", "1/3/0", "2/0/0")
    )
    content = bytearray(one.read_bytes())
    content[len(content) // 3] ^= 4
    one.write_bytes(content)
    two.unlink()
    three.write_bytes(three.read_bytes()[:-5])


@pytest.fixture
def stores(whole: Site, tmp_path: Path) -> list[Path]:
    """Returns a copy of the finished stores."""
    return sorted(Path(shutil.copytree(whole.out, tmp_path / "stores")).iterdir())


def repair(site: Site, stores: list[Path], teacher: Path | None = None) -> None:
    with site.counting():
        repair_labels.main(stores, site.made / "data/prepare", teacher or site.made / "data/train_teacher", 32, "cpu")


@EACH_PAIR
def test_only_broken_blocks_are_labelled_again(
    whole: Site, site: Site, stores: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for store in stores:
        damage_three(store)
    repair(site, stores)
    assert site.computed() == ["0-60", "1-180", "2-0"] * 2
    assert capsys.readouterr().err.count("bit for bit as it was") == 6
    assert files_of(stores[0].parent) == files_of(whole.out)
    repair(site, stores)
    assert "nothing is broken" in capsys.readouterr().err
    assert len(site.computed()) == 6


def test_another_teacher_may_not_repair(site: Site, stores: list[Path], tmp_path: Path) -> None:
    damage_three(stores[0])
    before = files_of(stores[0])
    write_teacher(tmp_path / "teacher", ImageDataset(site.made / "data/prepare").manifest, seed=1)
    with pytest.raises(StoreError, match="can't be repaired by teacher") as caught:
        repair(site, stores, tmp_path / "teacher")
    assert "\n" not in str(caught.value)
    assert files_of(stores[0]) == before
    assert site.computed() == []


def test_damage_beside_labels_is_not_answered_by_the_repair_that_found_it(site: Site, stores: list[Path]) -> None:
    (stores[0] / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"run `potstill repair`, then `dvc repro dump_labels`$"):
        repair(site, stores)
