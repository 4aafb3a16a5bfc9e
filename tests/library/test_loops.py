"""The loops of docs/recipes: each trains, and has the loss of `train_student` on the same batch."""

import runpy
from pathlib import Path

import pytest
import torch
from stores import CLASSES, FLOAT16, SPLIT, make
from test_dataset import folder as folder
from test_dataset import places_of
from torch import nn

from pipeline.core.closure import TOP
from pipeline.labels.reader import StoreReader
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.losses import build_loss
from pipeline.student.objective import Objective

LOOPS = sorted(TOP.glob("docs/recipes/*.py"))
MAX_LINES = 40
EPOCHS, BATCH = 3, 9  # two whole batches in an epoch, of 20 images
LOSS = Objective(0.5, 0.5, 2.0, 0.0, build_loss({"kind": "kd", "standardize": False}, "test"))

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        "'pin_memory' argument is set as true but no accelerator:UserWarning",  # Trainer
        ".isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",  # Lightning
        "The 'train_dataloader' does not have many workers",  # Lightning
    )
]


class Recorder(nn.Module):
    """A student that keeps what it saw and what it answered."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(SPLIT.inputs[0].numel(), len(CLASSES)))
        self.seen: list[torch.Tensor] = []
        self.answers: list[torch.Tensor] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(pixels)
        self.seen.append((pixels.detach() * 255).round().to("cpu", torch.uint8))
        self.answers.append(logits.detach().cpu())
        return logits


class Answers(nn.Module):
    """A network whose logits are known."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("labels") / "store.zarr", FLOAT16).path


def our_loss(store: Path, epoch: int, seen: torch.Tensor, logits: torch.Tensor) -> tuple[list[int], float]:
    """Returns the rows of an epoch that were seen, and the loss of `train_student` on them."""
    views = LabelledViews(SPLIT, StoreReader(store), CLASSES, 2.0)
    (whole,) = views.batches(epoch, 0, batch_size=len(SPLIT), seed=0)
    assert isinstance(whole.soft_targets, torch.Tensor)
    rows = places_of(whole.inputs, seen)
    batch = LabelledBatch(seen, whole.hard_labels[rows], soft_targets=whole.soft_targets[rows], epoch=epoch)
    return rows, float(LOSS(Answers(logits), batch, torch.device("cpu")))


@pytest.mark.parametrize("path", LOOPS, ids=lambda path: path.stem)
def test_a_loop_trains_with_our_loss_on_the_views_of_each_epoch(
    path: Path, folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    student = Recorder()
    before = student.body[1].weight.detach().clone()
    values = runpy.run_path(str(path))["train"](student, str(folder), str(store), EPOCHS, BATCH)
    steps = len(SPLIT) // BATCH
    assert len(values) == len(student.seen) == steps * EPOCHS
    for epoch in range(EPOCHS):
        places: list[int] = []
        for step in range(epoch * steps, (epoch + 1) * steps):
            rows, expected = our_loss(store, epoch, student.seen[step], student.answers[step])
            assert values[step] == pytest.approx(expected, rel=1e-5)
            places += rows
        assert len(set(places)) == steps * BATCH, "each image once"
    assert not torch.equal(before, student.body[1].weight.detach().cpu())


def test_a_recipe_is_short() -> None:
    assert len(LOOPS) == 6
    for path in LOOPS:
        assert len(path.read_text().splitlines()) < MAX_LINES, path.name
