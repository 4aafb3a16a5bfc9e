"""Memory and speed of `train_teacher` and `dump_labels`, with images held and read from disk.

Memory is counted above `import torch`.

    python -m benchmarks.teacher_memory --megabytes 400 --megabytes 1600

Each run is a process of its own, on made-up images. The teacher is the smallest default student's
network, so that the cost of reading is seen at its worst. Linux only.
"""

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer

from benchmarks.measure import report
from benchmarks.memory import HELD_MB, IMPORT_TORCH, make_up, peak_of
from pipeline.core.config import load_section
from pipeline.core.errors import one_line_errors
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset

NETWORK = {"model": "convnet_small", "model_settings": {"width": 8, "depth": 1}}
NUM_VIEWS, BLOCK_SAMPLES = 4, 2048
BUDGETS_MB = {"train_teacher": 64, "dump_labels": 128}
_RUN = "import runpy; runpy.run_module('stages.{}', run_name='__main__', alter_sys=True)"


def main(
    megabytes: list[int] = typer.Option([400], help="Size of a made-up data set of images."),
    rounds: int = 3,
) -> None:
    bare = peak_of(Path(sys.executable), IMPORT_TORCH)
    rows = []
    Path("work").mkdir(exist_ok=True)
    with TemporaryDirectory(dir="work") as folder:
        for size in megabytes:
            data = Path(folder, f"{size}MB")
            say(f"making up {size} MB of images")
            make_up(data, size * 1_000_000)
            rows += [_compare(stage, data / "prepare", Path(folder), bare, rounds) for stage in BUDGETS_MB]
    above = f"MB above import torch ({bare / 1e6:.0f} MB), seconds of the whole process"
    report("teacher_memory", f"peak of a teacher's training (1 epoch) and of its dump: {above}; {rounds} pairs", rows)


def _compare(stage: str, data: Path, folder: Path, bare: int, rounds: int) -> dict[str, Any]:
    """Returns figures of reading and holding, in turn, so that lasting noise hits both alike."""
    budgets = (BUDGETS_MB[stage], HELD_MB)
    pairs = [[_run(stage, data, folder, budget) for budget in budgets] for _ in range(rounds)]
    from_disk, held = zip(*pairs, strict=True)
    return {
        "stage": stage,
        "images MB": ImageDataset(data).manifest.input_bytes("train") / 1e6,
        "memory_budget_mb": BUDGETS_MB[stage],
        "from disk MB": statistics.median(peak - bare for peak, _ in from_disk) / 1e6,
        "held MB": statistics.median(peak - bare for peak, _ in held) / 1e6,
        "from disk s": statistics.median(seconds for _, seconds in from_disk),
        "held s": statistics.median(seconds for _, seconds in held),
        "speed": statistics.median(h[1] / d[1] for d, h in pairs),
    }


def _run(stage: str, data: Path, folder: Path, budget_mb: int) -> tuple[int, float]:
    """Returns the peak in bytes, and seconds."""
    teacher = folder / f"{data.parent.name}-teacher"
    with TemporaryDirectory(dir=folder) as own:
        options = {"params": _params(Path(own), budget_mb), "data": data, "work": f"{own}/work"}
        if stage == "train_teacher":
            options |= {"out": f"{own}/out", "reports": f"{own}/reports"}
        else:
            options |= {"out": f"{own}/out", "teacher": teacher}
        start = time.perf_counter()
        arguments = [f"--{name}={value}" for name, value in options.items()]
        peak = peak_of(Path(sys.executable), _RUN.format(stage), *arguments)
        seconds = time.perf_counter() - start
        if stage == "train_teacher" and not teacher.exists():
            Path(own, "out").rename(teacher)
    return peak, seconds


def _params(folder: Path, budget_mb: int) -> Path:
    """Writes the project's params.yaml with a small network, little work and the budget."""
    params = {name: load_section(dict, name) for name in ("train_teacher", "dump_labels", "encodings")}
    teacher, dump = params["train_teacher"], params["dump_labels"]
    teacher |= NETWORK | {"memory_budget_mb": budget_mb, "fit": teacher["fit"] | {"epochs": 1, "precision": "float32"}}
    dump |= {"num_views": NUM_VIEWS, "block_samples": BLOCK_SAMPLES, "batch_size": 256, "memory_budget_mb": budget_mb}
    path = folder / "params.yaml"
    write_json(path, params)  # JSON is YAML
    return path


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
