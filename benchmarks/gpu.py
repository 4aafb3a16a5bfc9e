"""`make gpu`: all that a graphics card is asked, in the order of worth, within a time limit.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --device cpu    # a rehearsal without a card: tiny sizes, no targets

First the tests that need a card, then the benchmarks. Those that read what `make repro` left are
passed over where it left nothing. What was measured goes to `reports/bench/gpu.json`; what fell
short is printed at the end.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from benchmarks.measure import RESULTS, machine
from pipeline.core.errors import one_line_errors
from pipeline.core.files import read_json, write_json
from pipeline.core.progress import say


@dataclass(frozen=True)
class Target:
    """A bound that a column of a benchmark's result should keep in each row."""

    result: str
    column: str
    least: float | None = None
    most: float | None = None

    def shortfalls(self, rows: list[dict[str, Any]]) -> Iterator[str]:
        """Yields a line for each row that misses it."""
        for row in rows:
            value, first = row[self.column], ", ".join(part for part in row.values() if isinstance(part, str))
            if self.least is not None and value < self.least:
                yield f"{self.result}, {first}: {self.column} {value:.3f}; the target is {self.least} or more"
            if self.most is not None and value > self.most:
                yield f"{self.result}, {first}: {self.column} {value:.3f}; the target is {self.most} or less"


@dataclass(frozen=True)
class Check:
    """A command, and what its results are held against."""

    words: str
    needs_data: bool = False
    targets: tuple[Target, ...] = ()


_RESNET50 = "--network torchvision/resnet50 --px 224 --classes 1000"
CHECKS = (
    Check(
        f"benchmarks.dump_overhead {_RESNET50} --batch-size 512 --rounds 3",
        targets=(Target("dump_overhead_resnet50_224", "share of the bare speed", least=0.90),),
    ),
    Check("benchmarks.step_cost", needs_data=True, targets=(Target("step_cost", "ratio", most=1.02),)),
    Check(
        "benchmarks.dump_overhead --network resnet_small --px 32",
        targets=(Target("dump_overhead_resnet_small_32", "share of the bare speed", least=0.90),),
    ),
    Check(f"benchmarks.teacher_step {_RESNET50} --rounds 5"),
    Check("benchmarks.dump_overhead --rounds 2", needs_data=True),
    Check("benchmarks.teacher_step", needs_data=True),
    Check("benchmarks.view_speed", needs_data=True),
    Check("benchmarks.profile", needs_data=True),
)
REHEARSAL = (
    Check("benchmarks.dump_overhead --network resnet_small --px 8 --labels 64 --rounds 1 --batch-size 32"),
    Check("benchmarks.teacher_step --network resnet_small --px 8 --rounds 1 --batch-size 8"),
)


def run(words: str, seconds: float) -> dict[str, Any]:
    """Runs `python -m <words>` for so many seconds at most; returns how it ended."""
    start = time.monotonic()
    try:
        status = subprocess.run([sys.executable, "-m", *words.split()], timeout=max(seconds, 1)).returncode
    except subprocess.TimeoutExpired:
        status = None
    ended = {0: "done", None: "out of time"}.get(status, f"failed with status {status}")
    return {"command": f"python -m {words}", "ended": ended, "seconds": round(time.monotonic() - start, 1)}


def results(device: str, since: float) -> dict[str, Any]:
    """Returns the results that benchmarks wrote for a device since then, by name."""
    suffix = "" if device == "cpu" else f"_{device}"
    written = (path for path in sorted(RESULTS.glob(f"*{suffix}.json")) if path.stat().st_mtime >= since)
    return {path.stem.removesuffix(suffix): read_json(path, made_by="make gpu") for path in written}


def main(device: str = "cuda", minutes: float = 9.0) -> None:
    began, ends = time.time(), time.monotonic() + 60 * minutes
    is_rehearsal = device == "cpu"
    ran, short = [], []
    # 1. The tests.
    if not is_rehearsal:
        ran.append(run("pytest -q -m gpu tests/test_gpu.py", ends - time.monotonic()))
    # 2. The benchmarks.
    for check in REHEARSAL if is_rehearsal else CHECKS:
        if check.needs_data and not Path("data/dump_labels").exists():
            say(f"gpu: {check.words} needs what `make repro` leaves, and is passed over")
            continue
        ran.append(run(f"{check.words} --device {device}", ends - time.monotonic()))
    # 3. What fell short.
    found = results(device, began)
    short += [f"{each['command']}: {each['ended']}" for each in ran if each["ended"] != "done"]
    targets = [target for check in CHECKS for target in check.targets if target.result in found]
    for target in [] if is_rehearsal else targets:
        short += target.shortfalls(found[target.result]["rows"])
    content = {"machine": machine(), "ran": ran, "targets": [*map(asdict, targets)], "short": short, "results": found}
    write_json(RESULTS / "gpu.json", content)
    for line in short or ["gpu: nothing fell short"]:
        print(line)
    print(f"gpu: {time.time() - began:.0f} s; {RESULTS / 'gpu.json'}")
    if any(each["ended"] != "done" for each in ran):
        raise typer.Exit(1)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
