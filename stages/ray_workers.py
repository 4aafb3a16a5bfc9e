"""ray: the workers of a stage as tasks of Ray, on a cluster or by a Ray of this machine's own.

In front of a stage's command, as torchrun stands there:

    potstill ray --workers 4 -m stages.dump_labels
"""

import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from pipeline.core.command import run_stage
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.progress import LOG_EVERY_SECONDS, say

SHARED = ("prepare", "dump_labels")  # stages whose workers share the work, and whose result is the same
_TRAINED = ("train_teacher", "train_student")
_DIED = -signal.SIGKILL
_STOPPED = 128  # a stage that a signal has ended reports this and the signal's number
_MEMORY = 100 << 20  # of a local Ray's object store, which holds lines alone


def main(
    words: Annotated[list[str], typer.Argument(help="`-m stages.<name>` and the options of that stage.")],
    workers: Annotated[int | None, typer.Option(min=1, max=100_000, help="One a GPU, or one a machine.")] = None,
    gpus_each: Annotated[float | None, typer.Option(min=0, max=1000, help="1 where there are any.")] = None,
    cores_each: Annotated[int | None, typer.Option(min=1, max=10_000, help="All, shared equally.")] = None,
    retries: Annotated[int, typer.Option(min=0, max=1000, help="Times that a worker which died begins again.")] = 3,
    address: Annotated[str | None, typer.Option(envvar="RAY_ADDRESS", help="The cluster's, or `auto`.")] = None,
) -> None:
    check_command(words)
    ray = connect(address)
    try:
        team = plan_team([each["Resources"] for each in ray.nodes() if each["Alive"]], workers, gpus_each, cores_each)
        where = f"the cluster at {address}" if address else "this machine"
        say(f"ray: {team.workers} workers on {where}, each with {team.cores_each} cores and {team.gpus_each:g} GPUs")
        status = follow(Cluster(ray, words, team), team.workers, retries)
    finally:
        ray.shutdown()
    raise typer.Exit(status)


def check_command(words: Sequence[str]) -> None:
    """Raises ConfigError where the words are not the command of a stage that workers share."""
    name = words[1].removeprefix("stages.") if words[0] == "-m" and len(words) > 1 else ""
    if name in SHARED:
        return
    expected = " or ".join(f"-m stages.{each}" for each in SHARED)
    fix = "run it by `python`, as other stages gain nothing from workers that share nothing"
    if name in _TRAINED:
        fix = "several processes train one network by `torchrun`, and several students beside each other by themselves"
    raise ConfigError("ray", f"cannot share {' '.join(words)!r}", expected=expected, fix=fix)


def connect(address: str | None) -> Any:
    """Returns the module `ray`, connected to a cluster or, without an address, to a new Ray on this
    machine that listens on its loopback interface alone.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:  # Ray's switch for what it does on a Mac: all of it at 127.0.0.1
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        fix = "run `pip install -c constraints.txt '.[ray]'`, on a cluster in every machine's Python"
        raise ConfigError("ray", "the package `ray` is not installed", fix=fix) from error
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _MEMORY} if address is None else {}
    try:
        ray.init(address=address or "local", logging_level="error", **own)
    except Exception as error:  # of any type: a local Ray that starts too slowly raises just this one
        fix = "see that the cluster runs, and the same versions of Ray and Python there as here"
        raise ConfigError("ray", f"no connection to {address or 'a local Ray'}: {error}", fix=fix) from error
    return ray


@dataclass(frozen=True)
class Team:
    """A team of workers: how many, and the cores and GPUs of each."""

    workers: int
    gpus_each: float
    cores_each: int


def plan_team(
    machines: Sequence[Mapping[str, float]], workers: int | None, gpus_each: float | None, cores_each: int | None
) -> Team:
    """Returns as many workers as there are GPUs, or machines if none has a GPU, with equal shares
    of the cores; what the user said comes first.

    Raises ConfigError where no machine has room for a worker, unless the user said everything: then
    the cluster may grow.
    """
    if workers is not None and gpus_each is not None and cores_each is not None:
        return Team(workers, gpus_each, cores_each)
    gpus = float(any(each.get("GPU") for each in machines)) if gpus_each is None else gpus_each
    able = [each for each in machines if each.get("GPU", 0) >= gpus and each.get("CPU", 0) >= (cores_each or 1)]
    if not able:
        expected = f"a machine with {cores_each or 1} cores and {gpus:g} GPUs"
        fix = "give all of --workers, --cores-each and --gpus-each to wait until the cluster has grown"
        raise ConfigError("ray", f"{len(machines)} machines, none of them large enough", expected=expected, fix=fix)
    places = [int(each["GPU"] / gpus) if gpus else 1 for each in able]
    count = workers or sum(places)
    if not gpus:
        places = [-(-count // len(able))] * len(able)
    cores = min(int(each["CPU"]) // place for each, place in zip(able, places, strict=True))
    return Team(count, gpus, cores_each or max(1, cores))


class Engine(Protocol):
    """A way to run workers elsewhere."""

    def begin(self, index: int) -> Hashable:
        """Starts a worker and returns its run."""

    def hear(self, runs: Sequence[Hashable]) -> tuple[Any, str | int]:
        """Waits for any run's next line, or for its exit status: below 0 where it died."""

    def end(self, run: Any) -> None:
        """Ends a run."""


class Cluster:
    """An engine: workers as tasks of Ray."""

    def __init__(self, ray: Any, words: Sequence[str], team: Team) -> None:
        self._ray, self._words, self._count = ray, list(words), team.workers
        if words[1] == "stages.prepare" and "--processes" not in words:  # else one a core of the whole machine
            self._words += ["--processes", str(team.cores_each)]
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # machines need not find this file
        self._task = ray.remote(
            num_cpus=team.cores_each,  # Ray sets OMP_NUM_THREADS to it, unless it is set
            num_gpus=team.gpus_each,
            max_retries=0,
            max_calls=1,
            scheduling_strategy="SPREAD",
        )(work)

    def begin(self, index: int) -> Hashable:
        command = [*self._words, "--worker", f"{index}/{self._count}"]
        run: Hashable = self._task.remote(str(Path.cwd()), command)
        return run

    def hear(self, runs: Sequence[Hashable]) -> tuple[Any, str | int]:
        (run,), _ = self._ray.wait(list(runs), num_returns=1)
        try:
            said: str | int = self._ray.get(next(run))
        except self._ray.exceptions.RayTaskError:
            raise
        except (self._ray.exceptions.RayError, StopIteration):  # its process or its machine has gone
            return run, _DIED
        return run, said

    def end(self, run: Any) -> None:
        self._ray.cancel(run, force=True)


def work(folder: str, command: Sequence[str]) -> Iterator[str | int]:
    """Runs a worker on a machine of the cluster; yields its lines, at last its exit status."""
    if not Path(folder).is_dir():
        expected = "the project's folder under the same path on every machine of the cluster"
        yield f"error: {socket.gethostname()}: {folder}: no such folder; expected {expected}"
        yield 1
        return
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def follow_into_death() -> None:
        """Asks for SIGTERM when the task's process dies, however it does: PR_SET_PDEATHSIG is 1."""
        if libc is not None:
            libc.prctl(1, signal.SIGTERM)

    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=follow_into_death,
    ) as process:
        yield f"{command[-1]}: process {process.pid} on {socket.gethostname()}"
        for line in process.stdout or ():
            yield line.rstrip("\n")
    yield process.returncode


def follow(engine: Engine, count: int, retries: int) -> int:
    """Runs workers to their end and shows what they report; returns the exit status of the stage.

    A worker that dies begins again, since all that it wrote is kept. One that ends with an error
    ends all: the others would find the same.
    """
    lines = Lines()
    runs = {engine.begin(index): index for index in range(count)}
    deaths, done = dict.fromkeys(range(count), 0), False
    try:
        while runs:
            run, said = engine.hear(list(runs))
            index = runs[run]
            if isinstance(said, str):
                lines.show(index, said)
                continue
            del runs[run]
            if 0 < said < _STOPPED:
                return said
            done = done or said == 0
            if said == 0:
                continue
            deaths[index] += 1
            again = deaths[index] <= retries
            what = f"begins again ({deaths[index]} of {retries})" if again else "is left out"
            say(f"ray: worker {index} of {count} died and {what}")
            if again:
                runs[engine.begin(index)] = index
    finally:
        for run in runs:
            engine.end(run)
    if not done:  # any worker that ends well has seen all the work finished
        found = f"all {count} workers died, each {retries + 1} times"
        raise PipelineError("ray", found, fix="see the lines above, then run the same command to go on")
    return 0


class Lines:
    """The lines of all workers as one log: what several report is shown once, and of their progress
    one line now and then.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._shown = -float(LOG_EVERY_SECONDS)

    def show(self, index: int, line: str) -> None:
        """Shows a line of a worker, unless it is one too many."""
        if self._first.setdefault(line, index) != index:
            return
        if line.endswith(" s left"):
            if time.monotonic() - self._shown < LOG_EVERY_SECONDS:
                return
            self._shown = time.monotonic()
        say(line)


if __name__ == "__main__":
    run_stage(main)
