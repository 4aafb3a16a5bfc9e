"""Networks as their makers leave them: what they answer, what they keep to themselves, how they
fail. Each works, or is one line that names the cause.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_split
from project import student
from teachers import SHAPE, begin, edit_params, make_project, run_dump, run_student, run_teacher, write_onnx

from pipeline.core.config import load_section
from pipeline.core.errors import ModelError
from pipeline.data.dataset import ImageDataset
from pipeline.doctor import speed
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import look_at_prepared
from pipeline.doctor.networks import TeacherCheck
from pipeline.labelling.settings import DumpLabels
from pipeline.models.saved import read_meta, read_model, write_model
from pipeline.teacher.settings import TrainTeacher

#: A network that knows the made-up images; a test replaces a line of it.
FILE = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4, outputs)
        nn.init.eye_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # init

    def forward(self, x):
        x = self.pool(x).mean(dim=1).flatten(1)
        # inside
        x = 8 * self.head(x)
        # end
        return x


def build(num_classes, channels):
    return Net(num_classes)
"""
IMAGES = make_split(8, shape=SHAPE).inputs


def write(folder: Path, **lines: str) -> dict[str, Any]:
    """Writes a file with these lines in their places; returns the settings of its network."""
    text = FILE
    for place, line in lines.items():
        text = text.replace(f"# {place}", line)
    (folder / "mine.py").write_text(text)
    return {"model": "mine.py:build", "model_settings": {}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path


def trained(folder: Path, **lines: str) -> Path:
    """Returns a project whose teacher is the network in the file, trained for an epoch."""
    return make_project(folder, write(folder, **lines), epochs=1, checkpoint_seconds=0.0)


def check(folder: Path, row: dict[str, Any], *, images: torch.Tensor = IMAGES) -> None:
    start = begin(folder / "out", row)
    start.check(start.build(0), images)


def ask_doctor(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Returns what the doctor's try of the teacher prints."""
    params, look = folder / "params.yaml", look_at_prepared(ImageDataset(folder / "data/prepare"))
    settings, dump = (
        load_section(TrainTeacher, "train_teacher", params),
        load_section(DumpLabels, "dump_labels", params),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_SECONDS", 0.01)
        TeacherCheck(settings, look, f"{params}: train_teacher", dump).run(Findings())
    return capsys.readouterr().out


SAVED = "built and read again"
RANDOM = r"other outputs for the same images a second time.*training=self.training"
BATCH = "other outputs alone than in a batch"
REFUSED = {
    "a random matrix": (
        {"init": "self.mix = torch.rand(4, 4)", "inside": "x = x @ self.mix"},
        rf"{SAVED}: mix decides",
    ),
    "of NumPy": ({"init": "self.mix = [np.random.rand()]", "inside": "x = x * self.mix[0]"}, SAVED),
    "an array": ({"init": "self.mix = np.random.rand(4)", "inside": "x = x * torch.tensor(self.mix).float()"}, "mix"),
    "not persistent": (
        {"init": "self.register_buffer('mix', torch.rand(4), persistent=False)", "inside": "x = x * self.mix"},
        rf"{SAVED}: mix decides",
    ),
    "dropout": ({"inside": "x = F.dropout(x)"}, RANDOM),
    "noise": ({"inside": "x = x + torch.randn_like(x)"}, RANDOM),
    "noise of NumPy": ({"inside": "x = x * np.random.rand()"}, RANDOM),
    "batch mean": ({"inside": "x = x - x.mean(dim=0)"}, BATCH),
    "batch norm": (
        {
            "init": "self.norm = nn.BatchNorm1d(4, track_running_stats=False)",
            "inside": "x = x + self.norm(torch.cat([x, x + 1]))[: len(x)]",
        },
        rf"{BATCH}; let norm keep statistics",
    ),
    "softmax": ({"end": "x = x.softmax(dim=1)"}, r"look like probabilities: each row sums up to 1.*outputs: probab"),
    "sigmoid": (
        {"end": "x = (0.8 * (x - x.mean(dim=1, keepdim=True))).sigmoid()"},
        r"look like probabilities: all are within 0 and 1.*outputs: probab",
    ),
    "a class that is off": (
        {"end": "x = torch.cat([x[:, :3], torch.full_like(x[:, 3:], -torch.inf)], dim=1)"},
        r"class 'doe' is -inf for 8 of 8 images.*a large negative number",
    ),
    "NaN": ({"end": "x = x / 0 * 0"}, "class 'ant' is nan for 8 of 8 images"),
    "a lazy layer": ({"init": "self.lazy = nn.LazyLinear(4)"}, r"lazy.weight has no size .*number of inputs"),
    "a tuple": ({"end": "x = (x, x)"}, "gives a tuple; expected one tensor of logits"),
    "a fault": (
        {"inside": "x = x.view(3, 5)"},
        r", line 19: can't take images .*shape '\[3, 5\]'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cant_be_relied_on_is_refused_by_the_cause(project: Path, name: str) -> None:
    lines, told = REFUSED[name]
    with pytest.raises(ModelError, match=rf"params.yaml: train_teacher: .*mine.py:build.*{told}") as caught:
        check(project, write(project, **lines))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [
        {},
        {"inside": "x = F.dropout(x, training=self.training)"},
        {"init": "self.register_buffer('mix', torch.rand(4, 4))", "inside": "x = x @ self.mix"},
        {"init": "self.register_buffer('mask', torch.tensor([0, -torch.inf]))", "inside": "x = x + self.mask[:1]"},
        {"init": "nn.init.zeros_(self.head.weight)"},
        {"init": "self.norm = nn.BatchNorm1d(4)", "inside": "x = self.norm(x)"},
        {"end": "x = x.log_softmax(dim=1)"},  # which has the softmax of the logits
    ],
)
def test_a_network_that_can_be_relied_on_is_taken(project: Path, lines: dict[str, str]) -> None:
    check(project, write(project, **lines))


@pytest.mark.parametrize(
    ("kind", "end"), [("probabilities", "x.softmax(dim=1)"), ("log_probs", "x.log_softmax(dim=1)"), ("logits", "x")]
)
def test_outputs_of_any_kind_become_logits(project: Path, kind: str, end: str) -> None:
    logits = begin(project / "out", write(project)).build(0)(IMAGES)
    row = write(project, end=f"x = {end}") | {"outputs": kind}
    start = begin(project / "out", row)
    model = start.build(0)
    start.check(model, IMAGES)
    torch.testing.assert_close(model(IMAGES).softmax(dim=1), logits.softmax(dim=1))
    assert ("output_kind" in model.state_dict()) == (kind != "logits")  # so that labels are of another teacher


@pytest.mark.parametrize(
    ("kind", "end", "told"),
    [
        ("probabilities", "x", r"outputs: probabilities, but they are .* to .*; expected 0 to 1"),
        ("log_probs", "x", r"outputs: log_probs, but they are .*; expected nothing above 0"),
    ],
)
def test_outputs_that_are_not_what_is_said_are_refused(project: Path, kind: str, end: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        check(project, write(project, end=f"x = {end}") | {"outputs": kind})


def test_stage_dump_and_doctor_refuse_probabilities_and_take_them_where_it_is_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(project, end="x = x.softmax(dim=1)")
    told = "params.yaml: train_teacher: model 'mine.py:build': its outputs look like probabilities"
    with pytest.raises(ModelError, match=told):
        run_teacher(project)
    assert told in ask_doctor(project, capsys)
    edit_params(project, "train_teacher", outputs="probabilities")
    folder = run_teacher(project)
    assert read_model(folder, made_by="")(IMAGES).min() < -1
    meta, weights = read_meta(folder, made_by=""), read_model(folder, made_by="").state_dict()
    del weights["output_kind"]
    write_model(folder, replace(meta, outputs=None), weights)  # as another program would leave it
    with pytest.raises(ModelError, match="its outputs look like probabilities"):
        run_dump(project)


def test_what_training_changes_beside_the_weights_is_found_before_anything_is_finished(project: Path) -> None:
    trained(project, init="self.seen = 1.0", inside="self.seen += 100.0 * self.training; x = x * self.seen")
    with pytest.raises(ModelError, match=SAVED):
        run_teacher(project)
    assert not (project / "data/train_teacher").exists()


def test_a_student_is_judged_like_a_teacher(project: Path) -> None:
    make_project(project, {"model": "onnx/mine.onnx", "model_settings": {}})
    write_onnx(project / "mine.onnx")
    lines = {"init": "self.mix = torch.rand(4, 4)", "inside": "x = x @ self.mix"}
    edit_params(project, "students", mine=student(labels="dense16", **write(project, **lines)))
    run_teacher(project)
    run_dump(project)
    with pytest.raises(ModelError, match=rf"params.yaml: students.mine: .*{SAVED}: mix"):
        run_student(project, "mine")


def test_tied_weights_are_saved_and_restored_as_tied(project: Path) -> None:
    lines = {
        "init": "self.other = nn.Linear(4, 4); self.other.weight = self.head.weight",
        "inside": "x = self.other(x)",
    }
    model = read_model(run_teacher(trained(project, **lines)), made_by="")
    assert model.network.other.weight is model.network.head.weight
    found = model.network.state_dict()
    torch.save({key: value for key, value in found.items() if key != "other.weight"}, project / "one.pt")
    again = begin(project / "out", write(project, **lines) | {"weights": "one.pt"}).build(0)
    assert torch.equal(again.network.state_dict()["other.weight"], found["head.weight"])


def test_a_mask_of_infinite_values_survives_the_moving_average(project: Path) -> None:
    lines = {
        "init": "self.register_buffer('mask', torch.tensor([0, -torch.inf]))",
        "inside": "x = x + self.mask[:1]",
    }
    model = read_model(run_teacher(trained(project, **lines)), made_by="")
    assert model.network.mask.tolist() == [0, -torch.inf]


#: Lines of a network that fails in training alone, and what is told.
FAULTS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "frozen": (
        {"init": "self.requires_grad_(False)"},
        {},
        r"train_teacher: none of the network's 2 parameters can be trained",
    ),
    "a fault": (
        {"inside": "assert not self.training, 'no luck'"},
        {},
        r"params.yaml: train_teacher: model 'mine.py:build', line 19: fails .AssertionError: no luck",
    ),
    "batch norm of one value": (
        {"init": "self.norm = nn.BatchNorm1d(4)", "inside": "x = self.norm(x)"},
        {"batch_size": 1},
        r"train_teacher: model 'mine.py:build', line 19, layer 'norm' .BatchNorm1d.: gets a single value .*raise fit.batch_size",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_training_names_the_row_the_line_and_the_layer(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    lines, fit, told = FAULTS[name]
    make_project(project, write(project, **lines), **{"epochs": 1, **fit})
    with pytest.raises(ModelError, match=told) as caught:
        run_teacher(project)
    assert "\n" not in str(caught.value)
    assert f"error    {caught.value}" in ask_doctor(project, capsys)


def test_parameters_that_are_frozen_in_part_stay_as_they_are(project: Path) -> None:
    lines = {"init": "self.head.weight.requires_grad_(False); self.n = nn.Parameter(torch.tensor(3), False)"}
    weights = read_model(run_teacher(trained(project, **lines)), made_by="").network.state_dict()
    assert torch.equal(weights["head.weight"], torch.eye(4))
    assert weights["head.bias"].any()


def test_an_onnx_file_without_the_file_of_its_weights_names_that(project: Path) -> None:
    write_onnx(project / "mine.onnx", beside=True)
    (left_behind,) = [path for path in project.iterdir() if path.is_file() and path.name != "mine.onnx"]
    left_behind.unlink()
    make_project(project, {"model": "onnx/mine.onnx", "model_settings": {}})
    with pytest.raises(ModelError, match=rf"keeps weights in {left_behind.name}, which is not beside it; copy"):
        run_teacher(project)
