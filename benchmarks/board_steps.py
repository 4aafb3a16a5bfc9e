"""The losses of a student's first steps, one a line: what two kinds of machine are compared by.

    python -m benchmarks.board_steps --steps 40 > losses.txt
    python -m benchmarks.board_steps --steps 40 --against losses.txt

docs/recipes/board.sh runs both, the first on an emulated board. It needs no more than a student
does. The network, the store, the order of images and the steps are those of `train_student` in
float32.
"""

import platform
import tempfile
import time
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import torch
import typer

from pipeline.core.config import PARAMS, load_table
from pipeline.core.errors import one_line_errors
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.saved import ModelMeta
from pipeline.student.data import StudentData
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer

BUDGET_MB = 200
TOLERANCE = 1e-5  # of a loss of about 2, after 40 steps


def losses(student: str, num_steps: int, folder: Path = Path("data"), params: Path = PARAMS) -> list[float]:
    """Returns the training loss of each of a student's first steps."""
    row, cpu = load_table(TrainStudent, "students", params)[student], torch.device("cpu")
    store = StoreReader(folder / f"dump_labels/{row.labels}.zarr")
    budget = MemoryBudget.of_megabytes(BUDGET_MB, row.fit.batch_size, "BUDGET_MB")
    dataset = ImageDataset(folder / "prepare")
    data = StudentData.open(dataset, budget, cpu, [store])
    task = StudentTask(row, data.labelled(store, row), data.val, cpu)
    meta = ModelMeta.untrained(row.model, row.model_settings, dataset.manifest, {})
    with tempfile.TemporaryDirectory() as scratch:
        workplace = Workplace(Path(scratch), cpu, student)
        trainer = Trainer(meta.build(row.seed), task, replace(row.fit, precision="float32"), workplace)
        trainer.begin_epoch()
        sums = [0.0]
        for batch in islice(task.batches(0, 0), num_steps):
            trainer.step(batch)
            sums.append(trainer.loss_sum.item())
    return [after - before for before, after in pairwise(sums)]


def main(student: str = "tiny", steps: int = 40, against: Path | None = None) -> None:
    start = time.monotonic()
    found = losses(student, steps)
    seconds = time.monotonic() - start
    print(f"# {platform.machine()}, torch {torch.__version__}, {steps} steps of {student}, {seconds:.0f} s")
    for loss in found:
        print(f"{loss:.9f}")
    if against is not None:
        there = [float(line) for line in against.read_text().splitlines() if not line.startswith("#")]
        apart = max(abs(mine - other) for mine, other in zip(found, there, strict=True))
        print(f"# at most {apart:.1e} apart; allowed {TOLERANCE:g}")
        raise SystemExit(apart > TOLERANCE)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
