"""The parts that all benchmarks share: things timed in turn, the machine, the result file."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tabulate import tabulate
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.core.errors import DataError
from pipeline.core.files import write_json

RESULTS = Path("reports/bench")

#: A command's option `--device`.
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda or mps; by default as params.yaml says.")]


def in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Returns the median seconds of both and the median of first / second, pair by pair.

    They take turns, so that lasting noise hits both alike. The order changes from pair to pair; one
    round goes before that is not counted.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(-1, rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            (first, second)[which]()
            if number >= 0:
                times[which].append(time.perf_counter() - start)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), ratio


def all_in_turn(actions: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Returns the seconds of each, round by round.

    They take turns, every other round from the last one to the first.
    """
    times: list[list[float]] = [[] for _ in actions]
    for number in range(rounds):
        for which in range(len(actions))[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            actions[which]()
            times[which].append(time.perf_counter() - start)
    return times


def operations(run: Callable[[], object]) -> int:
    """Returns the number of torch's operations in a run, backward passes included: a cost without
    noise.
    """
    seen: list[object] = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(function)
            return function(*args, **(kwargs or {}))

    with Counting():
        run()
    return len(seen)


def need_data() -> None:
    """Raises an error where `make repro` has not left its data."""
    for folder in ("data/prepare", "data/train_teacher", "data/dump_labels"):
        if not Path(folder).exists():
            raise DataError(folder, "no such folder", fix="run `make repro` first")


def peak_bytes() -> int:
    """Returns the most memory that this process has held since its own start; Linux only."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def synchronize(device: torch.device) -> None:
    """Waits until a device has done all its queued work, so that a clock may be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(name: str, claim: str, rows: list[dict[str, Any]], device: torch.device | None = None) -> None:
    """Prints a table and writes it with the machine to `reports/bench/<name>.json`.

    Figures of another `device` than the processor get a file beside that of the processor.
    """
    if device is not None and device.type != "cpu":
        name, claim = f"{name}_{device.type}", f"{claim}, on {device.type}"
    print(f"\n{name}: {claim}")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = [[_show(row.get(column)) for column in columns] for row in rows]
    print(tabulate(table, columns, disable_numparse=True), flush=True)
    write_json(RESULTS / f"{name}.json", {"claim": claim, "machine": machine(), "rows": rows})


def machine() -> dict[str, Any]:
    """Returns the machine that the figures were measured on."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _show(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
