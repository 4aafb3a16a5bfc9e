"""`train_student` on one core within so many MB, PyTorch and its pages of code counted.

    python -m benchmarks.small_memory --python another/bin/python
    python -m benchmarks.small_memory --limit 512 --limit 256 --folder /mnt/card

As root on Linux with control groups of version 1. The other Python is best one that has only what
a student needs, with PyTorch's CPU-only build. Before each run its packages leave the page cache,
so that reading them counts. How much a disk reads ahead decides the least memory: 128 kB is usual,
and what an SD card has; a disk that reads megabytes ahead pushes out the code that is needed next.
Lay the Python and the data (`data/prepare`, `data/dump_labels`) on one that does not.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer

from benchmarks.measure import report
from pipeline.core.config import load_table
from pipeline.core.errors import one_line_errors
from pipeline.core.files import read_json, write_json

GROUPS = Path("/sys/fs/cgroup/memory")
STUDENT, EPOCHS = "tiny", 2


def main(
    python: Path = typer.Option(Path(sys.executable), help="A Python that has only what a student needs."),
    folder: Path = typer.Option(Path("data"), help="The folder of `prepare` and `dump_labels`."),
    limit: list[int] = typer.Option([1024, 512, 320, 256], help="MB; 0: none."),
    seconds: int = typer.Option(150, help="A run that takes longer is ended."),
) -> None:
    rows = [_train(python, folder, megabytes, seconds) for megabytes in limit]
    report("small_memory", f"train_student ({STUDENT}, memory_budget_mb: auto, {EPOCHS} epochs) on one core", rows)


def _train(python: Path, folder: Path, megabytes: int, seconds: int) -> dict[str, Any]:
    """Trains the student within a limit, and returns what it took."""
    packages = subprocess.run(
        [python, "-c", "import torch; print(torch.__path__[0])"], stdout=subprocess.PIPE, text=True, check=True
    )
    for place in (Path(packages.stdout.strip()).parent, folder):
        _leave_cache(place)
    row = load_table(dict, "students")[STUDENT]
    row |= {"memory_budget_mb": "auto", "twin_of": None, "fit": row["fit"] | {"epochs": EPOCHS, "precision": "float32"}}
    with TemporaryDirectory() as own, _group(megabytes) as group:
        write_json(Path(own, "params.yaml"), {"students": {STUDENT: row}})  # JSON is YAML
        options = {"params": f"{own}/params.yaml", "data": folder / "prepare", "labels": folder / "dump_labels"}
        options |= {name: f"{own}/{name}" for name in ("out", "reports", "work")}
        command = [str(python), "-m", "stages.train_student", "--name", STUDENT]
        command += [f"--{name}={value}" for name, value in options.items()]

        def enter() -> None:
            (group / "cgroup.procs").write_text("0")
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        process = subprocess.Popen(command, preexec_fn=enter, stderr=subprocess.PIPE, text=True)
        try:
            told = process.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            told = process.communicate()[1]
        wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "limit MB": megabytes or None,
            "ends": {0: "trained", -9: "too slow, or killed"}.get(process.returncode, told[-200:]),
            "budget": next(
                (line.split("auto, ")[1].split(" MB")[0] for line in told.splitlines() if "auto, " in line), ""
            ),
            "peak MB, cache counted": int((group / "memory.max_usage_in_bytes").read_text()) / 1e6,
            "seconds": wall,
            "core-seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "pages read again": after.ru_majflt - before.ru_majflt,
            "seconds an epoch": _seconds(Path(own, "reports", f"{STUDENT}.json")),
        }


def _seconds(result: Path) -> float | None:
    return read_json(result, made_by="train_student")["seconds"] / EPOCHS if result.exists() else None


@contextmanager
def _group(megabytes: int) -> Iterator[Path]:
    """Makes a control group of a limit, for a while."""
    group = GROUPS / f"small_memory_{os.getpid()}"
    group.mkdir()
    try:
        if megabytes:
            (group / "memory.limit_in_bytes").write_text(str(megabytes * 1_000_000))
        yield group
    finally:
        time.sleep(0.5)  # its last process has just gone
        group.rmdir()


def _leave_cache(folder: Path) -> None:
    """Has the pages of all files of a folder leave the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
