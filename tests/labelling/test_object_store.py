"""Workers that share no disk: whoever is killed and whatever a request comes to, an object store
gets the bytes that one worker writes to a disk.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dump_host import DumpHost
from faults import make_teacher
from project import files_of

from benchmarks.object_dialects import DIALECTS
from benchmarks.object_server import FAULTS, ObjectServer
from pipeline.core.errors import VerificationError
from pipeline.labelling.records import UploadedRecords
from pipeline.labelling.remote_site import Meetings
from pipeline.labels.reader import StoreReader
from pipeline.labels.uploads import ObjectFolder
from stages import repair_labels, verify_labels

PLACE = "bucket/pets"
SCHEMES = tuple(DIALECTS)
NUM_BLOCKS = 12
NUM_WORKERS = 3
NOBODY: dict[str, str] = {}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DumpHost]:
    """Starts a host of workers; it has data and a teacher, for a store with anchors and one
    without.
    """
    made = make_teacher(
        tmp_path_factory.mktemp("made"), ("anchored", "top2"), num_views=3, block_samples=60, batch_size=32
    )
    with DumpHost(made, tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture(scope="module")
def whole(host: DumpHost, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Returns the files that one worker writes to a disk."""
    folder = tmp_path_factory.mktemp("whole")
    assert host.run(NOBODY, out=str(folder / "out"), work=str(folder / "work")) == 0, host.lines()
    return files_of(folder / "out")


@pytest.fixture(params=SCHEMES)
def server(host: DumpHost, request: pytest.FixtureRequest) -> Iterator[ObjectServer]:
    host.lines()
    with ObjectServer(request.param) as server:
        yield server


def to(server: ObjectServer) -> str:
    """Returns the address of the place on a server."""
    return f"{server.scheme}://{PLACE}"


def stores(files: dict[str, bytes]) -> dict[str, bytes]:
    """Returns the files of a place that are of stores; what else there is must be known."""
    assert [name for name in files if name.startswith(".")] == [".potstill/dump.json"]
    return {name: content for name, content in files.items() if not name.startswith(".")}


@pytest.mark.parametrize("num_kills", [4, pytest.param(20, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_killed_workers_and_failing_requests_end_in_the_same_bytes(
    scheme: str, num_kills: int, host: DumpHost, whole: dict[str, bytes]
) -> None:
    rng, phases, failed = random.Random(num_kills), Counter[str](), Counter[str]()
    num_rounds, before = 0, len(host.computed())
    while phases.total() < num_kills:
        with ObjectServer(scheme, fails=0.1, seed=num_rounds) as server:

            def start(number: int, server: ObjectServer = server) -> int:
                return host.start(server.environment, slow_s=0.05, to=to(server), worker=f"{number}/{NUM_WORKERS}")

            live, next_kill = [start(number) for number in range(NUM_WORKERS)], time.monotonic() + rng.random() * 0.8
            while live:
                time.sleep(0.01)
                for process in list(live):
                    if (status := host.status(process)) is not None:
                        assert status == 0, "\n".join(host.lines())
                        live.remove(process)
                if live and phases.total() < num_kills and time.monotonic() > next_kill:
                    live.remove(victim := rng.choice(live))
                    os.kill(victim, signal.SIGKILL)
                    while (status := host.status(victim)) is None:
                        time.sleep(0.01)
                    phases[phase(server)] += status == -signal.SIGKILL
                    live.append(start(rng.randrange(NUM_WORKERS)))
                    next_kill = time.monotonic() + rng.random() * 0.8
            assert stores(server.files(PLACE)) == whole
            failed.update(fault for fault, _ in server.failed.elements())
        num_rounds += 1
    assert set(failed) == set(FAULTS), "every way to fail has come up"
    twice = len(host.computed()) - before - num_rounds * NUM_BLOCKS
    print(f"kills: {dict(phases)}, failed requests: {dict(failed)}, {num_rounds} dumps, {twice} blocks made again")


def phase(server: ObjectServer) -> str:
    """Returns how far a dump has got."""
    names = server.files(PLACE)
    if "top2.zarr/zarr.json" in names:
        return "published"
    written = sum("/records/" in name and "anchors" not in name for name in names)
    return "begin" if not written else "blocks" if written < 2 * NUM_BLOCKS else "finish"


def test_a_worker_that_comes_late_finds_nothing_to_do(
    host: DumpHost, whole: dict[str, bytes], server: ObjectServer
) -> None:
    assert host.run(server.environment, to=to(server)) == 0, host.lines()
    assert stores(server.files(PLACE)) == whole
    before = len(host.computed())
    host.lines()
    assert host.run(server.environment, to=to(server)) == 0
    assert host.lines() == [f"{to(server)} has the stores already, finished and for these settings; nothing to do"]
    assert len(host.computed()) == before


def test_who_meets_another_goes_on_anywhere_and_then_in_order() -> None:
    meetings, place = Meetings(lambda: False), ObjectFolder.at("nowhere", aside="x")
    records = UploadedRecords(Path("here"), Path("store"), place, "x.zarr", "records")
    meetings.records.append(records)
    assert meetings.skipped(100) == 0
    found = set()
    for _ in range(20):
        records.met = True
        found.add(meetings.skipped(100))
        assert meetings.skipped(100) == 0
    assert len(found) > 5
    assert found <= set(range(100))


def test_an_interrupted_worker_goes_on(host: DumpHost, whole: dict[str, bytes], server: ObjectServer) -> None:
    before = len(host.computed())
    worker = host.start(server.environment, slow_s=0.1, to=to(server))
    while len(host.computed()) < before + 4:
        time.sleep(0.01)
    os.kill(worker, signal.SIGINT)
    assert host.wait(worker) == 128 + signal.SIGINT
    assert host.lines() == ["interrupted: finished work is kept, run the same command to go on"]
    assert host.run(server.environment, to=to(server)) == 0, host.lines()
    assert stores(server.files(PLACE)) == whole
    assert len(host.computed()) - before <= NUM_BLOCKS + 3


def test_a_block_that_was_lost_is_made_again_and_no_other(
    host: DumpHost, whole: dict[str, bytes], server: ObjectServer
) -> None:
    lost = f"{PLACE}/top2.zarr/classes/c/1/2/0"

    def lose(name: str) -> None:
        server.on_put = None
        server.objects.pop(lost)
        server.refuses = (403, "AccessDenied")

    server.on_put = ("top2.zarr/zarr.json", lose)  # as it is about to be published
    assert host.run(server.environment, to=to(server)) == 1
    server.refuses, before = None, len(host.computed())
    assert host.run(server.environment, to=to(server)) == 0, host.lines()
    assert host.computed()[before:] == ["1-120"]
    assert stores(server.files(PLACE)) == whole


def test_bytes_that_differ_are_noticed_and_not_mixed(host: DumpHost, server: ObjectServer) -> None:
    server.objects[f"{PLACE}/top2.zarr/classes/c/1/2/0"] = b"of another kind of processor"
    assert host.run(server.environment, to=to(server)) == 1
    assert [line for line in host.lines() if line.startswith("error")] == [
        f"error: {to(server)}/top2.zarr/classes/c/1/2/0: other bytes stand there than were made here; expected the same (is it "
        "another kind of processor, or are other versions of libraries at work?); name another folder, or delete what "
        "is in this one"
    ]


def test_a_place_of_other_settings_is_refused(host: DumpHost, server: ObjectServer) -> None:
    server.objects[f"{PLACE}/.potstill/dump.json"] = b'{"torch": "1.0"}'
    before = server.files(PLACE)
    assert host.run(server.environment, to=to(server)) == 1
    (line,) = host.lines()
    assert line.startswith(f"error: {to(server)}: is the place of a dump that differs in settings, encodings, ")
    assert line.endswith("; name another folder for --to, or delete this one")
    assert server.files(PLACE) == before


def test_stores_that_were_put_there_otherwise_are_spared(host: DumpHost, server: ObjectServer) -> None:
    server.objects[f"{PLACE}/top2.zarr/zarr.json"] = b"{}"
    assert host.run(server.environment, to=to(server)) == 1
    assert host.lines() == [
        f"error: {to(server)}: holds stores that were put there otherwise; name another folder, or delete this one's stores"
    ]
    assert server.files(PLACE) == {"top2.zarr/zarr.json": b"{}"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda server: setattr(server, "is_conditional", False), "its server keeps no object from being replaced"),
        (lambda server: setattr(server, "refuses", (501, "NotImplemented")), "keeps no object from being replaced"),
        (lambda server: setattr(server, "refuses", (403, "AccessDenied")), "access refused (403 Forbidden, AccessDen"),
        (lambda server: server.buckets.clear(), "no such bucket (404 Not Found, "),
    ],
    ids=["ignores conditions", "knows no conditions", "no right to write", "no bucket"],
)
def test_a_place_of_no_use_is_one_clear_line(change, found: str, host: DumpHost, server: ObjectServer) -> None:  # type: ignore[no-untyped-def]
    change(server)
    before = len(host.computed())
    assert host.run(server.environment, to=to(server)) == 1
    (line,) = host.lines()
    assert line.startswith(f"error: {to(server)}")
    assert found in line
    assert len(host.computed()) == before


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("http://127.0.0.1:1/x", "can't be written to; expected a folder, or an address that begins with s3://"),
        ("ftp://host/x", "not an address of a store"),
        ("s3://bucket/x?y=1", "followed by a query"),
        ("az://bucket/x", "can't be opened (Account must be specified); fix the address, or the AWS_..., "),
        ("{made}/params.yaml", "/params.yaml is no folder); correct what is there, or name another place"),
        ("{made}/params.yaml/below", "/params.yaml is no folder); correct what is there, or name another place"),
    ],
)
def test_an_address_of_no_use_is_one_clear_line(to: str, found: str, host: DumpHost) -> None:
    host.lines()
    assert host.run(NOBODY, to=to.format(made=host.made)) == 1
    (line,) = host.lines()
    assert found in line


def test_without_credentials_the_line_names_them(host: DumpHost, server: ObjectServer) -> None:
    where = {name: value for name, value in server.environment.items() if "KEY" not in name and "TOKEN" not in name}
    assert host.run(where, to=to(server)) == 1
    (line,) = host.lines()
    assert ("access refused (403 Forbidden" if server.scheme == "s3" else "access refused (401 Unauthorized") in line
    needed = {
        "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "gs": "GOOGLE_APPLICATION_CREDENTIALS (on a cloud machine: GCE_METADATA_HOST)",
        "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    }
    assert line.endswith(f"asked without credentials; set {needed[server.scheme]}")


@pytest.mark.parametrize("address", ["{}", "file://{}"])
def test_a_folder_without_locks_will_do(address: str, host: DumpHost, whole: dict[str, bytes], tmp_path: Path) -> None:
    to = address.format(tmp_path / "disk")
    workers = [host.start(NOBODY, slow_s=0.02, to=to, worker=f"{number}/2") for number in range(2)]
    assert [host.wait(worker) for worker in workers] == [0, 0], host.lines()
    assert stores(files_of(tmp_path / "disk")) == whole
    assert not list((tmp_path / "disk/.potstill").glob("*/*"))


def test_a_store_is_verified_and_repaired_where_it_lies(
    host: DumpHost,
    whole: dict[str, bytes],
    server: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    server.objects.update({f"{PLACE}/{name}": content for name, content in whole.items()})
    for name in ("anchored.zarr/anchor_gaps/c/1/0", "anchored.zarr/places/c/0/2/0", "top2.zarr/classes/c/1/3/0"):
        damaged = bytearray(server.objects[f"{PLACE}/{name}"])
        damaged[len(damaged) // 3] ^= 4
        server.objects[f"{PLACE}/{name}"] = bytes(damaged)
    server.drop([f"{PLACE}/top2.zarr/tail_steps/c/2/0/0"])
    data = host.made / "data"

    def verify() -> None:
        verify_labels.main(
            host.made / "params.yaml",
            data / "prepare",
            labels=to(server),
            report=tmp_path / "report.json",
            with_teacher=False,
        )

    with pytest.raises(VerificationError, match="4 faults"):
        verify()
    repair_labels.main(
        [f"{to(server)}/{name}.zarr" for name in ("anchored", "top2")],
        data / "prepare",
        data / "train_teacher",
        32,
        "cpu",
    )
    assert capsys.readouterr().err.count("bit for bit as it was") == 4
    assert server.files(PLACE) == whole
    verify()


def test_a_repair_with_other_bytes_is_signed_where_it_lies(
    host: DumpHost, whole: dict[str, bytes], server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    server.objects.update({f"{PLACE}/{name}": content for name, content in whole.items()})
    store = StoreReader(f"{to(server)}/top2.zarr")
    block, other = store.manifest.blocks()[:2]
    parts = store.fidelity_parts
    assert not store.replace_block(block, store.read_view(0, other.rows), parts[1])
    again = StoreReader(f"{to(server)}/top2.zarr")
    again.check_whole()
    assert [fault for _, fault in again.check() if fault] == []
    assert again.fidelity_parts[0] == parts[1]
