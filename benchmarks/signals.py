"""Distillation of what is not one class of several: did it pay, and what did not.

    python -m benchmarks.signals              # data and teacher by docs/params/multilabel.yaml
    python -m benchmarks.signals --seeds 1 --scenes 2000 --epochs 1    # a rehearsal

Independent classes (scenes of up to four Fashion-MNIST items): a student that learns from stored
labels by `binary_kd`, its hard-label twin, one that learns from both, and one by the wrong recipe,
a softmax over classes that do not exclude each other. The pipeline's own stages run in
work/signals, so that the command can be killed and started again. Figures are of the test scenes.
"""

from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from pydantic.dataclasses import dataclass
from torch import Tensor

from benchmarks.measure import report
from benchmarks.project import Project, gained, set_epochs, write_params
from pipeline.core.config import STRICT, load_params
from pipeline.core.errors import one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.signals import signal_named
from pipeline.signals.losses import kl_divergence_with_log_targets
from pipeline.student.losses import LOSSES
from pipeline.student.losses.base import SoftLoss

FOLDER, PARAMS = Path("work/signals"), Path("docs/params/multilabel.yaml")
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SoftmaxOfIndependent(SoftLoss):
    """The wrong recipe: KD by a softmax over classes that do not exclude each other."""

    kind = "softmax_of_independent"
    signals = ("binary",)
    learns_from = ("every class", "filled tail")

    def _values(self, logits: Tensor, targets: Tensor, hard_labels: Tensor, temperature: float, epoch: int) -> Tensor:
        return temperature**2 * kl_divergence_with_log_targets(targets.log_softmax(dim=1), logits / temperature)


def arms(seeds: int) -> dict[str, dict[str, Any]]:
    """Returns the changes of a student's row, by the name of the student."""
    hard, soft = {"hard_weight": 1.0, "soft_weight": 0.0}, {"hard_weight": 0.0, "soft_weight": 1.0}
    halves = {"hard_weight": 0.5, "soft_weight": 0.5}
    wrong = {"loss": {"kind": SoftmaxOfIndependent.kind, "standardize": False}}
    recipes: dict[str, dict[str, Any]] = {
        "twin": {"labels": "none", **hard},
        "soft": soft,
        "halves": halves,
        "softmax": {**halves, **wrong},
    }
    return {f"{arm}_{seed}": {**row, "seed": seed} for seed in range(seeds) for arm, row in recipes.items()}


def params_of(rows: dict[str, dict[str, Any]], scenes: int | None, epochs: int | None) -> dict[str, Any]:
    """Returns the multi-label settings with these students."""
    params = load_params(PARAMS)
    own = params["students"]["tiny"]
    if scenes is not None:
        params["prepare"]["source"] |= {"train_scenes": scenes, "test_scenes": max(100, scenes // 5)}
    set_epochs(params, epochs)
    return params | {"students": {name: own | row for name, row in rows.items()}}


def main(
    seeds: int = 3,
    scenes: Annotated[int | None, typer.Option(help="Training scenes; by default those of the params.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of teacher and students; by default those of the params.")] = None,
    raw: Path = Path("data/raw"),
) -> None:
    LOSSES[SoftmaxOfIndependent.kind] = SoftmaxOfIndependent
    project, rows = Project(FOLDER / f"multilabel_{scenes or 'whole'}"), arms(seeds)
    write_params(params_of(rows, scenes, epochs), project.params)
    project.make_teacher(raw)
    project.make_labels()
    for name in rows:
        project.make_student(name)
    found = {name: _judge(project.student(name), project.prepared) for name in rows}
    table = [{"network": "teacher", **_judge(project.teacher, project.prepared), "seeds": 1}]
    for arm in dict.fromkeys(name.rsplit("_", 1)[0] for name in rows):
        each = [found[f"{arm}_{seed}"] for seed in range(seeds)]
        twins = [found[f"twin_{seed}"]["map"] for seed in range(seeds)]
        table.append(
            {
                "network": arm,
                **{key: mean(own[key] for own in each) for key in each[0]},
                "seeds": seeds,
                **gained([own["map"] for own in each], twins),
            }
        )
    report("signals", f"independent classes, {seeds} seeds, test scenes", table)


def _judge(folder: Path, prepared: Path) -> dict[str, float]:
    """Returns a network's figures on the test split."""
    dataset, device = ImageDataset(prepared), choose_device("auto")
    test, model = dataset.stream("test"), read_model(folder, made_by="signals").to(device)
    outputs = predict_logits(model, test.in_order(_AT_ONCE), device)
    return signal_named(dataset.manifest.signal).metrics(outputs, test.hard_labels)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
