"""Students that learn from the teacher's embeddings: with labels, alone, killed and gone on."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from project import student
from safetensors.torch import load_file
from stores import UINT8, make
from teachers import edit_params, make_project, run_dump, run_student, run_teacher
from torch import nn

import pipeline.student.run
from pipeline.core.config import validate
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.models.saved import read_meta, read_model
from pipeline.student.batches import LabelledBatch
from pipeline.student.features import check_features, features_line
from pipeline.student.groups import check_team
from pipeline.student.settings import TrainStudent
from pipeline.training.team import Team
from pipeline.training.trainer import Trainer

FIT = {**student()["fit"], "batch_size": 16, "checkpoint_seconds": 1e6}
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cosine": {"features": "emb"},
    "narrow": {"features": "sketch", "feature_loss": {"kind": "mse"}, "feature_weight": 0.1},
    "relations": {"features": "sketch", "feature_loss": {"kind": "rkd"}, "feature_weight": 0.01},
    "alone": {"features": "emb", "soft_weight": 0.0, "hard_weight": 0.0, "labels": "none"},
    "frozen": {"features": "emb", "fit": FIT | {"layer_decay": 0.5, "epochs": 1}},
}


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a project with stores of labels and of embeddings."""
    folder = make_project(tmp_path_factory.mktemp("dumped"), {})
    edit_params(folder, "train_teacher.fit", epochs=1)
    run_teacher(folder)
    sketch = {"kind": "sketch", "dimensions": 6, "seed": 1, "values": "int8"}
    edit_params(folder, "encodings", emb={"kind": "vector_int8"}, sketch=sketch)
    run_dump(folder)
    edit_params(folder, "students", **{name: student(**({"fit": FIT} | row)) for name, row in ROWS.items()})
    return folder


@pytest.fixture
def own(dumped: Path, tmp_path: Path) -> Iterator[Path]:
    """Copies the project for a test that changes it."""
    return Path(shutil.copytree(dumped, tmp_path / "own", ignore=shutil.ignore_patterns("work")))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("name", [name for name in ROWS if name != "plain"])
def test_a_student_learns_from_features_and_is_written_without_the_projection(name: str, dumped: Path) -> None:
    plain, taught = run_student(dumped, "plain"), run_student(dumped, name)
    assert weights_of(taught).keys() == weights_of(plain).keys() == load_file(taught / "best.safetensors").keys()
    read_model(taught, made_by="train_student")
    assert read_meta(taught, made_by="train_student").settings["features"] == ROWS[name]["features"]
    assert "features" not in read_meta(plain, made_by="train_student").settings
    same = all(torch.equal(values, weights_of(plain)[key]) for key, values in weights_of(taught).items())
    assert not same


def test_features_bring_the_student_closer_to_the_teacher(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    whole = pipeline.student.run.fit

    def watched(runs: Any, batches: Any = None) -> Any:
        result = whole(runs, batches)
        losses.extend(row["train_loss"] for row in result[0].state.history)
        return result

    monkeypatch.setattr(pipeline.student.run, "fit", watched)
    edit_params(own, "students.alone", fit=FIT | {"epochs": 6})
    run_student(own, "alone")
    assert losses[-1] < 0.6 * losses[0]  # the mean cosine distance alone


def test_a_killed_student_goes_on_to_the_same_bits(dumped: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cosine"
    edit_params(own, f"students.{name}", fit=FIT | {"checkpoint_seconds": 0.0})
    step, steps = Trainer.step, []

    def killing(self: Any, batch: Any) -> None:
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killing)
        with pytest.raises(KeyboardInterrupt):
            run_student(own, name)
    edited, whole = weights_of(run_student(own, name)), weights_of(run_student(dumped, name))
    assert all(torch.equal(edited[key], whole[key]) for key in whole)


def test_a_group_gives_each_the_bits_that_it_has_alone(dumped: Path, own: Path) -> None:
    for name in ("plain", "narrow"):
        edit_params(own, f"students.{name}", group="all")
    for name in ("plain", "narrow"):
        together, alone = weights_of(run_student(own, name)), weights_of(run_student(dumped, name))
        assert all(torch.equal(together[key], alone[key]) for key in alone)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": "dense8"}, "cosine.features: .*dense8.zarr holds labels of classes; expected a store of emb"),
        ({"features": "embb"}, "embb.zarr: no such store; .*emb"),
        ({"labels": "emb", "features": None}, "labels: 'emb', a store of embeddings; .* name it in `features`"),
        ({"fit": FIT | {"compile": True}}, "fit.compile: true, and it learns from features"),
        ({"feature_loss": {"kind": "cosin"}}, "feature_loss.kind.*cosine"),
        ({"feature_weight": 0.0}, "feature_weight"),
        ({"features": None, "hard_weight": 0.0, "soft_weight": 0.0}, "both 0"),
    ],
)
def test_what_does_not_fit_is_one_line(own: Path, changes: dict[str, Any], said: str) -> None:
    edit_params(own, "students.cosine", **changes)
    with pytest.raises(PipelineError, match=said) as caught:
        run_student(own, "cosine")
    assert len(str(caught.value)) <= 500


def test_stores_of_other_views_are_refused(tmp_path: Path) -> None:
    embeddings: dict[str, Any] = {"class_names": [], "signal": "vector", "num_dimensions": 6}
    embeddings |= {"temperature": 1.0, "temperatures": [1.0]}
    labels = make(tmp_path / "labels.zarr", UINT8)
    check_features(make(tmp_path / "same.zarr", {"kind": "vector_float16"}, **embeddings), labels, "here")
    fewer = make(tmp_path / "fewer.zarr", {"kind": "vector_float16"}, view_numbers=[1], **embeddings)
    with pytest.raises(ConfigError, match=r"has other view numbers than .*labels.zarr.*stores of one dump"):
        check_features(fewer, labels, "here")


def test_what_is_to_be_known_is_told() -> None:
    row = validate(TrainStudent, student(**ROWS["alone"]), "students.alone")
    assert str(features_line(row)).startswith("learns from features alone")
    assert features_line(row.without_features()) is None
    relations = validate(TrainStudent, student(**ROWS["relations"]), "students.relations")
    with pytest.raises(ConfigError, match=r"feature_loss: kind 'rkd' compares the examples of a batch"):
        check_team(Team(rank=0, world=2), {"relations": relations}, "students")


class Both(nn.Module):
    """A network that gives logits and an embedding of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.trunk(pixels.flatten(1).float())
        return self.head(embedding), embedding


def test_a_head_that_learns_nothing_has_a_gradient_for_processes_to_exchange() -> None:
    row, network = validate(TrainStudent, student(**ROWS["alone"]), "students.alone"), Both()
    batch = LabelledBatch(
        torch.ones(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, -1]), features=torch.tensor([[1.0, 2.0, 3.0]] * 2)
    )
    row.objective(2.0)(network, batch, torch.device("cpu")).backward()  # type: ignore[no-untyped-call]
    assert network.head.weight.grad is not None
    assert not network.head.weight.grad.any()
    assert network.trunk.weight.grad is not None
    assert network.trunk.weight.grad.any()
