"""Workers on Ray: what is started and shown, what begins again, and the same bytes on a real Ray.

The last needs the extra `ray`, which `make setup` does not install.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from made import Made
from project import environment, files_of, forget, make_project, small_params
from typer.testing import CliRunner

from pipeline.core.errors import ConfigError, PipelineError
from stages import ray_workers
from stages.__main__ import build_app
from stages.ray_workers import Team, follow, plan_team, work

DIED = -9


class Played:
    """An engine of played workers: for each run of a worker, the lines and the status that it
    gives.
    """

    def __init__(self, *workers: Sequence[Sequence[str | int]]) -> None:
        self._left = [[list(run) for run in runs] for runs in workers]
        self._said: dict[str, list[str | int]] = {}
        self.begun: list[str] = []
        self.ended: list[str] = []

    def begin(self, index: int) -> str:
        run = f"{index}.{len(self.begun)}"
        self._said[run] = self._left[index].pop(0)
        self.begun.append(run)
        return run

    def hear(self, runs: Sequence[str]) -> tuple[str, str | int]:
        return runs[0], self._said[runs[0]].pop(0)

    def end(self, run: str) -> None:
        self.ended.append(run)


def test_a_worker_that_dies_begins_again_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Played([["at work", DIED], [143], [0]], [["at work", "done", 0]])
    assert follow(engine, 2, retries=2) == 0
    assert engine.begun == ["0.0", "1.1", "0.2", "0.3"]
    assert engine.ended == []
    told = capsys.readouterr().err.splitlines()
    assert told.count("at work") == 1, "a line of several workers is shown once"
    assert "ray: worker 0 of 2 died and begins again (2 of 2)" in told
    assert "done" in told


def test_a_worker_that_keeps_dying_is_left_out_and_only_the_last_one_ends_the_stage() -> None:
    assert follow(Played([[DIED], [DIED]], [[0]]), 2, retries=1) == 0
    with pytest.raises(PipelineError, match="all 2 workers died, each 2 times; see the lines above"):
        follow(Played([[DIED], [DIED]], [[DIED], [DIED]]), 2, retries=1)


@pytest.mark.parametrize("status", [1, 2])
def test_an_error_is_not_tried_again_and_ends_all(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Played([["error: params.yaml: no", status]], [["at work", 0]], [["at work", 0]])
    assert follow(engine, 3, retries=9) == status
    assert engine.ended == ["1.1", "2.2"]
    assert capsys.readouterr().err == "error: params.yaml: no\n"


def test_who_interrupts_ends_all_workers() -> None:
    class Interrupted(Played):
        def hear(self, runs: Sequence[str]) -> tuple[str, str | int]:
            raise KeyboardInterrupt

    engine = Interrupted([[0]], [[0]])
    with pytest.raises(KeyboardInterrupt):
        follow(engine, 2, retries=3)
    assert engine.ended == ["0.0", "1.1"]


def test_of_all_workers_progress_one_line_is_shown_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"dump_labels worker {n}: 10 of 90 labels (11%), about {n} s left" for n in range(3)]
    follow(Played([[*lines, "the rest", 0]]), 1, retries=0)
    assert capsys.readouterr().err.splitlines() == [lines[0], "the rest"]


@pytest.mark.parametrize(
    ("machines", "asked", "team"),
    [
        ([(8, 0)], (None, None, None), Team(1, 0, 8)),
        ([(8, 0)], (4, None, None), Team(4, 0, 2)),
        ([(2, 0)], (4, None, None), Team(4, 0, 1)),
        ([(8, 0), (4, 0)], (None, None, None), Team(2, 0, 4)),
        ([(4, 0), (32, 8), (32, 8)], (None, None, None), Team(16, 1, 4)),
        ([(32, 8)], (2, None, None), Team(2, 1, 4)),
        ([(32, 2)], (None, 0.5, None), Team(4, 0.5, 8)),
        ([(32, 8)], (3, 0, 2), Team(3, 0, 2)),
        ([], (3, 1, 2), Team(3, 1, 2)),
    ],
)
def test_workers_are_as_many_as_there_are_gpus_or_machines_with_equal_shares(
    machines: Sequence[tuple[int, int]], asked: tuple[Any, Any, Any], team: Team
) -> None:
    assert plan_team([{"CPU": cpu, "GPU": gpu} for cpu, gpu in machines], *asked) == team


def test_a_cluster_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 machines, none of them large enough; expected a machine with 1 cores and"):
        plan_team([{"CPU": 8.0}], None, 1, None)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("-m stages.evaluate", ["'-m stages.evaluate'", "gain nothing"]),
        ("-m stages.train_teacher", ["by `torchrun`"]),
        ("stages/dump_labels.py", ["expected -m stages.prepare or -m stages.dump_labels"]),
    ],
)
def test_a_stage_that_workers_cannot_share_is_refused_before_ray_is_looked_for(words: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as fault:
        ray_workers.main(words.split())
    assert all(part in str(fault.value) for part in parts)


def test_without_the_package_a_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"not installed; run `pip install -c constraints.txt '.\[ray\]'`"):
        ray_workers.main(["-m", "stages.dump_labels"])


def test_options_behind_the_stage_are_the_stages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Nowhere:
        def nodes(self) -> list[dict[str, Any]]:
            return [{"Alive": True, "Resources": {"CPU": 2.0}}]

        def shutdown(self) -> None:
            seen.append("shut down")

    monkeypatch.setattr(ray_workers, "connect", lambda address: Nowhere())
    monkeypatch.setattr(ray_workers, "Cluster", lambda ray, words, team: seen.append((words, team.workers)))
    monkeypatch.setattr(ray_workers, "follow", lambda *_: 3)
    words = ["-m", "stages.dump_labels", "--workers", "9", "--help"]
    result = CliRunner().invoke(build_app(), ["ray", "--workers", "2", *words])
    assert result.exit_code == 3
    assert seen == [(words, 2), "shut down"]


# A worker as a machine of the cluster runs it.


def test_a_worker_yields_its_lines_and_its_status(tmp_path: Path) -> None:
    first, *said = work(str(tmp_path), ["-c", "import os; print(os.getcwd()); print('b'); os._exit(7)", "1/2"])
    assert re.fullmatch(r"1/2: process \d+ on .+", str(first))
    assert said == [str(tmp_path), "b", 7]
    line, status = work(str(tmp_path / "none"), [])
    assert "none: no such folder; expected the project's folder" in str(line)
    assert status == 1


# A real Ray on this machine.

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")


def small() -> dict[str, Any]:
    """Returns the params of a small project with enough blocks to kill a worker between them."""
    params = small_params()
    params["dump_labels"] |= {"num_views": 6, "block_samples": 64}
    return params


def start_ray(folder: Path, *words: str, stage: str = "dump_labels") -> "subprocess.Popen[str]":
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    around = environment() | {"PYTHONPATH": str(Path(spec.origin).parents[1])}
    command = ["python", "-m", "stages", "ray", "--workers", "2", "-m", f"stages.{stage}", *words]
    return subprocess.Popen(command, cwd=folder, env=around, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a project with the labels of one process."""
    return made.copy(small(), "dump_labels", make_project(tmp_path_factory.mktemp("labelled"), small()))


def lines_of(driver: "subprocess.Popen[str]") -> Iterator[str]:
    assert driver.stderr is not None
    with driver.stderr as lines:
        for line in lines:
            yield line.rstrip()


def processes_of(lines: Iterator[str], count: int) -> list[int]:
    """Returns the processes of workers as the driver names them."""
    found: list[int] = []
    while len(found) < count:
        if match := re.match(r"\d/2: process (\d+) on", next(lines)):
            found.append(int(match[1]))
    return found


def wait_until_at_work(project: Path) -> None:
    end = time.monotonic() + 120
    while len(list((project / "work").glob("*/records/*/*-*.json"))) < 3:
        assert time.monotonic() < end
        time.sleep(0.002)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def listening(process: int) -> set[str]:
    """Returns the addresses at which a process and what it started can be reached."""
    found = set()
    for each in psutil.Process(process).children(recursive=True):
        for connection in each.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip.removeprefix("::ffff:"))
    return found


@needs_ray
def test_of_two_workers_on_ray_one_is_killed_and_so_is_a_process_of_ray_and_the_bytes_are_the_same(
    labelled: Path,
) -> None:
    alone = files_of(labelled / "data/dump_labels")
    forget(labelled, "dump_labels")
    driver = start_ray(labelled)
    lines = lines_of(driver)
    killed, orphan = processes_of(lines, 2)
    wait_until_at_work(labelled)
    assert listening(driver.pid) == {"127.0.0.1"}
    os.kill(killed, signal.SIGKILL)
    os.kill(parent_of(orphan), signal.SIGKILL)
    rest = list(lines)
    assert driver.wait() == 0, rest
    assert sum("died and begins again" in line for line in rest) == 2, rest
    assert files_of(labelled / "data/dump_labels") == alone


@needs_ray
def test_two_workers_on_ray_prepare_the_same_bytes(labelled: Path) -> None:
    alone = files_of(labelled / "data/prepare")
    forget(labelled, "prepare")
    driver = start_ray(labelled, stage="prepare")
    rest = list(lines_of(driver))
    assert driver.wait() == 0, rest
    assert sum("process" in line for line in rest) == 2
    assert files_of(labelled / "data/prepare") == alone


@needs_ray
def test_bad_input_is_one_line_and_not_tried_again(labelled: Path) -> None:
    driver = start_ray(labelled, "--teacher", "nowhere")
    lines = list(lines_of(driver))
    assert driver.wait() == 1
    assert lines[-1].startswith("error: nowhere")
    assert sum("process" in line for line in lines) <= 2


@needs_ray
def test_an_interrupt_ends_the_workers_too(labelled: Path) -> None:
    forget(labelled, "dump_labels")
    driver = start_ray(labelled)
    workers = processes_of(lines := lines_of(driver), 2)
    wait_until_at_work(labelled)
    os.kill(driver.pid, signal.SIGINT)
    assert list(lines)[-1].startswith("interrupted")
    assert driver.wait() == 130
    end = time.monotonic() + 30
    while any(Path(f"/proc/{each}").exists() for each in workers):
        assert time.monotonic() < end
        time.sleep(0.05)
