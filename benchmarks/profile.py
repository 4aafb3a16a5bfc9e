r"""The time of a dump and of a student's step, by operations of torch, on any device.

    python -m benchmarks.profile    # the teacher and the data that `make repro` left
    python -m benchmarks.profile --device cuda --network torchvision/resnet50 --px 224 \
        --classes 1000

On a CUDA device it is the device's own time; the rest to 100% is the time in which the device
waits. On a processor the rest is the time of Python, compression and the disk.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import typer
from torch.profiler import ProfilerActivity, profile

from benchmarks.dump_overhead import Random, trained
from benchmarks.measure import DeviceOption, report
from benchmarks.step_cost import Data, steps
from benchmarks.student_steps import STEPS
from pipeline.core.config import load_row, load_rows, load_section
from pipeline.core.errors import one_line_errors
from pipeline.labelling.settings import DumpLabels
from pipeline.models.devices import choose_device
from pipeline.student.settings import TrainStudent

_BLOCKS = 2


def main(
    device: DeviceOption = None,
    network: str | None = None,
    px: int = 32,
    classes: int = 10,
    labels: int = 8192,
    student: str = "small",
    top: int = 12,
) -> None:
    settings = load_section(DumpLabels, "dump_labels")
    where = choose_device(device or settings.device)
    if network is None:
        work = trained(settings, where, labels)
    else:
        work = Random(network, px, classes, labels, load_rows("encodings")).work(settings, where, 2 * _BLOCKS)
    with TemporaryDirectory() as folder:
        rows = profiled(work.dump(work.targets(Path(folder)), work.blocks(), _BLOCKS), where, top)
    dumped = f"{network or 'the teacher'}, {_BLOCKS} blocks of {labels} labels"
    report("profile_dump", f"where the time of a dump goes: {dumped}", rows, where)
    rows = profiled(steps(load_row(TrainStudent, "students", student), Data.read(where)), where, top)
    report("profile_step", f"where the time of {STEPS} steps of student {student!r} goes", rows, where)


def profiled(run: Callable[[], None], device: torch.device, top: int) -> list[dict[str, Any]]:
    """Returns the operations that take longest in the second of two runs.

    The first run pays for all that is done once.
    """
    run()
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as seen:
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
    spent = {
        event.key: (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count)
        for event in seen.key_averages()
        if not on_gpu or event.device_type.name == "CUDA"
    }
    rows = [
        {"operation": name[:60], "calls": calls, "ms": spent_us / 1000}
        for name, (spent_us, calls) in sorted(spent.items(), key=lambda item: -item[1][0])[:top]
    ]
    all_ms = sum(spent_us for spent_us, _ in spent.values()) / 1000
    listed_ms = sum(float(row["ms"]) for row in rows)
    rest_ms = 1000 * seconds - all_ms
    rows += [
        {"operation": "other operations", "calls": "", "ms": all_ms - listed_ms},
        {"operation": "the device waits" if on_gpu else "outside torch", "calls": "", "ms": rest_ms},
        {"operation": "all", "calls": "", "ms": 1000 * seconds},
    ]
    return [row | {"share %": float(row["ms"]) / seconds / 10} for row in rows]


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
