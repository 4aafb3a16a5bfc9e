"""Claims: one holder at a time, the dead let go; and a process finds out which worker it is."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.sharing.claims import Claims
from pipeline.sharing.workers import Worker, this_worker

TOP = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from pipeline.sharing.claims import Claims

with Claims(Path(sys.argv[1])).hold("a"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.kill()


def test_a_name_is_held_by_one_at_a_time_and_others_are_free(tmp_path: Path) -> None:
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    with one.attempt("a") as mine:
        assert mine
        with other.attempt("a") as its, other.attempt("b") as free:
            assert not its
            assert free
        with other.attempt("a") as its:  # to have asked does not let go of it
            assert not its
    with other.attempt("a") as its:
        assert its


def test_a_claim_ends_with_an_error_in_its_work(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with pytest.raises(ZeroDivisionError), claims.attempt("a"):
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), claims.hold("a"):
        1 / 0  # noqa: B018
    with claims.attempt("a") as mine:
        assert mine


def test_an_error_where_the_name_is_held_by_another_is_not_lost(tmp_path: Path) -> None:
    with Claims(tmp_path).hold("a"), pytest.raises(ZeroDivisionError), Claims(tmp_path).attempt("a"):
        1 / 0  # noqa: B018


def test_holding_waits_until_the_name_is_free(tmp_path: Path) -> None:
    claims, events = Claims(tmp_path), []

    def wait() -> None:
        with Claims(tmp_path).hold("a"):
            events.append("second")

    with claims.hold("a"):
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        thread.join(0.2)
        events.append("first")
    thread.join(10)
    assert events == ["first", "second"]


def test_what_a_killed_process_held_is_free_and_not_before(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with held_by_another_process(tmp_path) as other:
        with claims.attempt("a") as mine:
            assert not mine
        other.kill()  # SIGKILL: it can't clean up
        other.wait()
        with claims.attempt("a") as mine:
            assert mine


TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "4"}
JOB = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("option", "environment", "worker"),
    [
        (None, {}, Worker(0, 1, 0)),
        (None, {"HOME": "/root", "RANK": "0"}, Worker(0, 1, 0)),
        ("0/1", {}, Worker(0, 1, 0)),
        ("3/4", {}, Worker(3, 4, 0)),
        ("3/4", TORCHRUN, Worker(3, 4, 0)),
        (None, TORCHRUN, Worker(5, 8, 1)),
        (None, TORCHRUN | JOB, Worker(5, 8, 1)),
        (None, ARRAY, Worker(2, 4, 0)),
        (None, {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, Worker(0, 4, 0)),
        (None, {"SLURM_ARRAY_TASK_ID": "7"}, Worker(7, None, 0)),
        (None, ARRAY | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}, Worker(2, 4, 0)),
        (None, JOB, Worker(3, 4, 1)),
        (None, {"JOB_COMPLETION_INDEX": "6"}, Worker(6, None, 0)),
        (None, {"JOB_COMPLETION_INDEX": ""}, Worker(0, 1, 0)),
    ],
)
def test_a_process_knows_which_worker_it_is(option: str | None, environment: dict[str, str], worker: Worker) -> None:
    assert this_worker(option, environment) == worker


@pytest.mark.parametrize("option", ["", "1", "4/4", "0/0", "-1/4", "a/b", "1/4x", "1.0/4", "1/4\n2/4"])
def test_a_worker_that_can_not_be_is_refused_in_one_line(option: str) -> None:
    with pytest.raises(ConfigError, match=r"^--worker: .*expected i/n with i from 0 to n - 1") as caught:
        this_worker(option, TORCHRUN)
    assert "\n" not in str(caught.value)


def test_workers_begin_apart() -> None:
    assert [Worker(i, 4).first(100) for i in range(4)] == [0, 25, 50, 75]
    assert [Worker(i, 4).first(2) for i in range(4)] == [0, 0, 1, 1]
    assert Worker().first(7) == 0
    for count in (2, 5, 16):
        starts = sorted(Worker(i, None).first(1000) for i in range(count))
        gaps = [b - a for a, b in zip(starts, [*starts[1:], 1000 + starts[0]], strict=True)]
        assert starts[0] == 0
        assert max(gaps) < 3 * 1000 / count
        assert min(gaps) > 1000 / count / 3
    assert all(
        0 <= Worker(i, count).first(length) < length for i in range(9) for count in (9, None) for length in (1, 3)
    )


def test_a_worker_is_named_where_there_are_several() -> None:
    assert [Worker().name, Worker(2, 8).name, Worker(2, None).name] == ["", " worker 2 of 8", " worker 2"]
