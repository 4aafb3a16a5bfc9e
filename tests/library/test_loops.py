"""The loops of docs/recipes: each trains, and has the loss of `train_student` on the same batch."""

import runpy
from pathlib import Path

import pytest
import torch
from stores import CLASSES, FLOAT16, SPLIT, make
from test_dataset import MIXED, places_of
from test_dataset import folder as folder
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
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns a store of views of one image, and one of views that are mixed of two."""
    within = tmp_path_factory.mktemp("labels")
    mixed = make(within / "mixed.zarr", FLOAT16, views=MIXED.to_dict())
    return {"single": make(within / "single.zarr", FLOAT16).path, "mixed": mixed.path}


def our_loss(store: Path, epoch: int, seen: torch.Tensor, logits: torch.Tensor) -> tuple[list[int], float]:
    """Returns the rows of an epoch that were seen, and the loss of `train_student` on them."""
    views = LabelledViews(SPLIT, StoreReader(store), CLASSES, 2.0)
    (whole,) = views.batches(epoch, 0, batch_size=len(SPLIT), seed=0)
    rows = places_of(whole.inputs, seen)
    columns = {name: values[rows] for name, values in vars(whole).items() if isinstance(values, torch.Tensor)}
    return rows, float(LOSS(Answers(logits), LabelledBatch(**columns, epoch=epoch), torch.device("cpu")))


@pytest.mark.parametrize(
    ("name", "views"),
    [*((path.stem, "single") for path in LOOPS), ("pytorch_loop", "mixed"), ("fast_loop", "mixed")],
)
def test_a_loop_trains_with_our_loss_on_the_views_of_each_epoch(
    name: str,
    views: str,
    folder: Path,
    stores: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    student = Recorder()
    before = student.body[1].weight.detach().clone()
    train = runpy.run_path(str(TOP / f"docs/recipes/{name}.py"))["train"]
    values = train(student, str(folder), str(stores[views]), EPOCHS, BATCH)
    steps = len(SPLIT) // BATCH
    assert len(values) == len(student.seen) == steps * EPOCHS
    for epoch in range(EPOCHS):
        places: list[int] = []
        for step in range(epoch * steps, (epoch + 1) * steps):
            rows, expected = our_loss(stores[views], epoch, student.seen[step], student.answers[step])
            assert values[step] == pytest.approx(expected, rel=1e-5)
            places += rows
        assert len(set(places)) == steps * BATCH, "each image once"
    assert not torch.equal(before, student.body[1].weight.detach().cpu())


def test_a_recipe_is_short() -> None:
    assert len(LOOPS) == 6
    for path in LOOPS:
        assert len(path.read_text().splitlines()) < MAX_LINES, path.name
