"""The cost of Ray: workers of a stage by a local Ray, against the same processes by hand.

The stage only shows its help, so that what is timed is the start, a task for each worker, and the
end. It needs the extra `ray`, and no data.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import typer

from benchmarks.measure import all_in_turn, report
from pipeline.core.errors import ConfigError, one_line_errors

_HELP = ["-m", "stages.prepare", "--help"]
_IMPORT = "import ray"
_START = "from stages.ray_workers import connect; connect(None).shutdown()"


def main(rounds: int = 5, workers: int = 2) -> None:
    if find_spec("ray") is None:
        raise ConfigError(
            "ray", "the package `ray` is not installed", fix="run `pip install -c constraints.txt '.[ray]'`"
        )
    ways = {
        f"{workers} workers by hand": _run([[*_HELP]] * workers),
        f"{workers} workers by Ray": _run([["-m", "stages", "ray", "--workers", str(workers), *_HELP]]),
        "Ray's start and end alone": _run([["-c", _START]]),
        "its import alone": _run([["-c", _IMPORT]]),
    }
    times = all_in_turn(list(ways.values()), rounds + 1)
    rows = [
        {
            "what": what,
            "seconds": statistics.median(seconds[1:]),
            "least": min(seconds[1:]),
            "most": max(seconds[1:]),
            "more than by hand": statistics.median(
                own - hand for own, hand in zip(seconds[1:], times[0][1:], strict=True)
            ),
        }
        for what, seconds in zip(ways, times, strict=True)
    ]
    report("ray_start", f"processes from their start to their end, median of {rounds} rounds after one more", rows)


def _run(commands: list[list[str]]) -> Callable[[], object]:
    """Returns an act: Python processes with these arguments beside each other, to their end."""

    def act() -> None:
        quiet = subprocess.DEVNULL
        processes = [subprocess.Popen([sys.executable, *each], stdout=quiet, stderr=quiet) for each in commands]
        statuses = [process.wait() for process in processes]
        if any(statuses):
            raise ConfigError("ray", f"{' '.join(commands[0])}: ended in an error", fix="run it by hand and look")

    return act


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
