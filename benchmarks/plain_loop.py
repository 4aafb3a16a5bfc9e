"""A student's epoch by our training against the shortest correct loop in PyTorch.

    python -m benchmarks.plain_loop    # the data and the labels that `make repro` left
    python -m benchmarks.plain_loop small --rounds 2

The loop has the same network, optimizer, batch size and number format, and hard labels. It takes
views that were rendered before and lie in memory. Ours is all that `potstill train-student` does in
an epoch: it renders views, joins and decodes labels, changes the learning rate, clips gradients,
averages weights, looks for faults, validates, and writes a checkpoint. Each begins with a new
network. The loop is timed as it is, and with a validation at its end, as an epoch of ours has.
"""

from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from benchmarks.measure import DeviceOption, in_turn, need_data, report, synchronize
from pipeline.core.config import load_table
from pipeline.core.errors import one_line_errors
from pipeline.data.auto_budget import settle
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import Split
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.precision import choose_precision, computing_in
from pipeline.models.saved import ModelMeta
from pipeline.student.data import StudentData
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.training.fit import fit
from pipeline.training.recipe import build_optimizer
from pipeline.training.run import Workplace
from pipeline.training.trainer import Trainer

ROUNDS = 5
_JUDGED = 500  # images in one pass, as in our validation


@dataclass(frozen=True)
class Epoch:
    """A student's first epoch, to be trained any number of times, from new weights each time."""

    row: TrainStudent
    views: LabelledViews
    val: Split
    device: torch.device
    meta: ModelMeta

    def ours(self) -> None:
        """Trains it as `potstill train-student` does."""
        with TemporaryDirectory() as scratch, redirect_stderr(StringIO()):
            task = StudentTask(self.row, self.views, self.val, self.device)
            workplace = Workplace(Path(scratch), self.device, "plain_loop")
            fit([Trainer(self.meta.build(self.row.seed), task, replace(self.row.fit, epochs=1), workplace)])
        synchronize(self.device)

    def plain(self, *, judged: bool) -> Callable[[], nn.Module]:
        """Returns a function that trains it by the shortest loop, and may judge the network."""
        images, labels = self._rendered()
        val, val_labels = (each.to(self.device) for each in (self.val.first(len(self.val)), self.val.hard_labels))

        def train() -> nn.Module:
            model = self.meta.build(self.row.seed).to(self.device).train()
            optimizer = build_optimizer(model, self.row.fit)
            in_format = choose_precision(self.row.fit.precision, model, self.device)
            for rows in torch.randperm(len(images), device=self.device).split(self.row.fit.batch_size):
                with computing_in(in_format, self.device):
                    loss = F.cross_entropy(model(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if judged:
                accuracy(model, val, val_labels)
            synchronize(self.device)
            return model

        return train

    def _rendered(self) -> tuple[Tensor, Tensor]:
        """Returns the views of the epoch, and their hard labels, on the device: whole batches."""
        size, seed = self.row.fit.batch_size, self.row.seed
        batches = list(self.views.batches(0, 0, batch_size=size, seed=seed))
        views, labels = (torch.cat([vars(batch)[name] for batch in batches]) for name in ("inputs", "hard_labels"))
        return views.to(self.device), labels.to(self.device)


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Returns the share of images whose class a network predicts."""
    model.eval()
    logits = torch.cat([model(some) for some in images.split(_JUDGED)])
    return (logits.argmax(dim=1) == labels).double().mean().item()


def measure(epoch: Epoch, rounds: int) -> dict[str, Any]:
    """Returns the seconds of one epoch in each way, and ratios."""
    ours, judged, ratio = in_turn(epoch.ours, epoch.plain(judged=True), rounds)
    _, bare, ratio_to_bare = in_turn(epoch.ours, epoch.plain(judged=False), rounds)
    seconds = {"ours s": ours, "plain loop, validated s": judged, "plain loop s": bare}
    return seconds | {"ratio": ratio, "ratio to the loop without validation": ratio_to_bare}


def main(
    students: Annotated[list[str] | None, typer.Argument(help="By default all but the twins.")] = None,
    device: DeviceOption = None,
    rounds: int = ROUNDS,
) -> None:
    need_data()
    where = choose_device(device or "auto")
    table = load_table(TrainStudent, "students")
    chosen = {name: row for name, row in table.items() if (name in students if students else row.twin_of is None)}
    dataset, rows = ImageDataset(Path("data/prepare")), list[dict[str, Any]]()
    for name, row in chosen.items():
        store = StoreReader(Path(f"data/dump_labels/{row.labels}.zarr"))
        setting = f"students.{name}.memory_budget_mb"
        budget = MemoryBudget.of_megabytes(settle(row.memory_budget_mb, setting), row.fit.batch_size, setting)
        data = StudentData.open(dataset, budget, where, [store])
        meta = ModelMeta.untrained(row.model, row.model_settings, dataset.manifest, {})
        for labels, changed in (("hard", replace(row, hard_weight=1.0, soft_weight=0.0)), (row.labels, row)):
            epoch = Epoch(changed, data.labelled(store, changed), data.val, where, meta)
            rows.append({"student": name, "labels": labels} | measure(epoch, rounds))
    claim = f"an epoch of train-student against the shortest loop in PyTorch, median of {rounds} pairs"
    report("plain_loop", claim, rows, where)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
