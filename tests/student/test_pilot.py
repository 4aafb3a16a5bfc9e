"""`auto` temperatures and weights: the rule, a killed pilot, and a student that chose them."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from made import Made
from project import files_of, small_params, student, write_params
from pydantic import TypeAdapter, ValidationError
from runs import make_task

import pipeline.student.pilots
import pipeline.student.run
from pipeline.core.config import validate
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.files import read_json
from pipeline.core.tensors import read_tensors
from pipeline.student.pilots import shorten
from pipeline.student.settings import TrainStudent
from pipeline.student.temperature import Choice, Temperature, choose_temperature
from pipeline.training.recipe import FitSettings
from pipeline.training.run import FitResult, RunState
from pipeline.training.trainer import Task
from pipeline.views.spec import ViewSpec
from stages import train_student

CPU = torch.device("cpu")


def result_of(accuracy: float, nll: float = 1.0) -> FitResult:
    return FitResult({}, {}, RunState(history=[{"val_accuracy": accuracy, "val_nll": nll}]))


def choose(folder: Path, accuracies: dict[float, float], num_samples: int = 400) -> Choice:
    return choose_temperature(
        list(accuracies),
        lambda temperature, _: result_of(accuracies[temperature]),
        num_samples=num_samples,
        folder=folder,
        name="x",
    )


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        # One standard error of 0.8 on 400 samples is 0.02.
        ({1.0: 0.70, 2.0: 0.80, 4.0: 0.75}, 2.0),
        ({1.0: 0.781, 2.0: 0.80, 4.0: 0.75}, 1.0),
        ({1.0: 0.779, 2.0: 0.80, 4.0: 0.80}, 2.0),
        ({4.0: 0.80, 2.0: 0.79, 1.0: 0.70}, 2.0),  # in whatever order
        ({1.0: 0.5, 2.0: 0.5, 4.0: 0.5}, 1.0),
        ({1.0: 0.999, 4.0: 1.0}, 4.0),  # the standard error is 0
    ],
)
def test_the_lowest_temperature_within_a_standard_error_of_the_best_is_taken(
    tmp_path: Path, accuracies: dict[float, float], chosen: float
) -> None:
    choice = choose(tmp_path, accuracies)
    assert choice.temperature == chosen
    assert list(choice.pilots) == sorted(accuracies)


def test_more_samples_tell_closer_temperatures_apart(tmp_path: Path) -> None:
    close = {1.0: 0.795, 2.0: 0.80}
    assert choose(tmp_path / "few", close, num_samples=400).temperature == 1.0
    assert choose(tmp_path / "many", close, num_samples=40_000).temperature == 2.0


def test_a_store_of_one_temperature_needs_no_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(temperature: float, folder: Path) -> FitResult:
        raise AssertionError

    choice = choose_temperature([3.0], fail, num_samples=10, folder=tmp_path, name="x")
    assert choice == Choice(3.0, {})
    assert choice.to_dict() == {"temperature": 3.0, "temperature_pilot": {}}
    assert "temperature 3, the only one that its store serves" in capsys.readouterr().err


def test_trials_of_another_signal_name_its_figure_as_a_training_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tried(temperature: float, folder: Path) -> FitResult:
        return FitResult({}, {}, RunState(history=[{"val_miou": 0.5, "val_accuracy": 0.9, "val_nll": 1.0}]))

    choose_temperature([1.0, 2.0], tried, num_samples=100, folder=tmp_path, name="x")
    said = capsys.readouterr().err
    assert "x: pilot at temperature 1: val mean IoU 50.00%, NLL 1.0000" in said
    assert "of the best mean IoU, 50.00%" in said


def test_each_trial_and_the_choice_are_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choose(tmp_path, {1.0: 0.7, 2.0: 0.8})
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "x: pilot at temperature 1: val accuracy 70.00%, NLL 1.0000",
        "x: pilot at temperature 2: val accuracy 80.00%, NLL 1.0000",
    ]
    assert lines[2].startswith("x: temperature 2, the lowest")
    assert "2.00%" in lines[2]
    assert "80.00%" in lines[2]
    assert len(lines) == 3


def test_a_killed_pilot_does_not_repeat_what_is_done(tmp_path: Path) -> None:
    tried: list[float] = []

    def try_one(temperature: float, folder: Path) -> FitResult:
        tried.append(temperature)
        folder.mkdir(parents=True)
        if tried == [1.0, 2.0]:
            raise KeyboardInterrupt
        return result_of(0.8 + math.sqrt(temperature) / 1000, 1 / 3)

    def run() -> Choice:
        return choose_temperature([1.0, 2.0, 4.0], try_one, num_samples=100, folder=tmp_path, name="x")

    with pytest.raises(KeyboardInterrupt):
        run()
    shutil.rmtree(tmp_path / "temperature-2")  # where `fit` would go on
    choice = run()
    assert tried == [1.0, 2.0, 2.0, 4.0]
    assert run() == choice  # from what is kept, to the last bit
    assert len(tried) == 4
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"temperature-{t}.json" for t in (1, 2, 4)]


def test_what_is_recorded_is_plain_and_holds_no_time(tmp_path: Path) -> None:
    table = choose(tmp_path, {1.0: 0.7, 2.5: 0.8}).to_dict()
    assert json.loads(json.dumps(table)) == table
    assert table["temperature"] == 2.5
    assert table["temperature_pilot"] == {
        "1": {"accuracy": 0.7, "nll": 1.0},
        "2.5": {"accuracy": 0.8, "nll": 1.0},
    }


@pytest.mark.parametrize("value", [1, 2.5, 1e-3, "auto"])
def test_a_temperature_is_a_number_or_auto(value: object) -> None:
    found = TypeAdapter(Temperature).validate_python(value)
    assert found == value
    assert isinstance(found, float | str)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan, "2", "atuo", None, True, [1.0]])
def test_any_other_temperature_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="a number above 0, or auto"):
        TypeAdapter(Temperature).validate_python(value)


@pytest.mark.parametrize(("epoch_steps", "steps"), [(1000, 7), (7, 7), (3, 3)])
def test_a_trial_is_short_and_takes_up_where_it_was(
    monkeypatch: pytest.MonkeyPatch, epoch_steps: int, steps: int
) -> None:
    monkeypatch.setattr(pipeline.student.pilots, "PILOT_STEPS", 7)
    settings = FitSettings(**student()["fit"] | {"epochs": 30, "precision": "auto", "patience_epochs": 2})
    task = make_task(
        batches=lambda epoch, start: iter(range(start, epoch_steps)),
        steps_per_epoch=epoch_steps,
        loss=lambda model, batch: torch.zeros(()),
        inputs=lambda batch: torch.zeros(()),
        validate=lambda model: {},
    )
    short, recipe = shorten(task, settings, CPU)
    assert short.steps_per_epoch == steps
    assert list(short.batches(0, 0)) == list(range(steps))
    assert list(short.batches(0, 2)) == list(range(2, steps))
    assert (recipe.epochs, recipe.patience_epochs, recipe.precision) == (1, None, "float32")
    assert shorten(task, settings, torch.device("cuda"))[1].precision == "auto"


# A student of the real stage.

AUTO = {"temperature": "auto", "hard_weight": "auto", "soft_weight": "auto"}


def run_student(folder: Path, name: str = "small") -> None:
    data = folder / "data"
    train_student.main(
        name,
        folder / "params.yaml",
        data / "prepare",
        str(data / "dump_labels"),
        data / "train_student",
        folder / "reports",
        folder / "work",
    )


def with_student(folder: Path, **changes: Any) -> None:
    fit = student()["fit"] | {"epochs": 1, "checkpoint_seconds": 0.1}
    write_params(folder, small_params() | {"students": {"small": student(fit=fit, **changes)}})


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a project with stores, one of them of a sampled encoding."""
    params = small_params()
    params["encodings"] |= {
        "drawn": {"kind": "sampled", "draws": 5, "seed": 0},
        "rest": params["encodings"]["top2"] | {"tail": "rest"},
    }
    folder = made.copy(params, "dump_labels", tmp_path_factory.mktemp("labelled"))
    shutil.rmtree(folder / "data/train_teacher")  # no student needs it
    return folder


@pytest.fixture(scope="module")
def chosen(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a project with a student whose temperature and weights were chosen."""
    folder = Path(shutil.copytree(labelled, tmp_path_factory.mktemp("chosen") / "project"))
    with_student(folder, **AUTO)
    run_student(folder)
    return folder


@pytest.fixture
def folder(labelled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(labelled, tmp_path / "project"))


def test_a_student_that_chose_is_the_one_that_names_what_it_chose(chosen: Path, folder: Path) -> None:
    settings = read_json(chosen / "data/train_student/small/meta.json", made_by="")["settings"]
    table = settings["temperature_pilot"]
    assert list(table) == ["1", "2"]
    assert all(0 < row["accuracy"] <= 1 and row["nll"] > 0 for row in table.values())
    report = read_json(chosen / "reports/small.json", made_by="")
    assert report["temperature_pilot"] == table
    assert report["temperature"] == settings["temperature"] in (1.0, 2.0)
    found = read_tensors(chosen / "data/train_student/small/weights.safetensors", made_by="")

    assert list(settings["weight_pilot"]) == ["0/1", "0.5/0.5", "0.8/0.2"]
    assert settings["weight_pilot"]["0.5/0.5"] == table[f"{settings['temperature']:g}"], "not tried twice"
    assert [report[key] for key in ("weight_pilot", *AUTO)] == [settings[key] for key in ("weight_pilot", *AUTO)]

    with_student(folder, **{key: settings[key] for key in AUTO})
    run_student(folder)
    named = read_tensors(folder / "data/train_student/small/weights.safetensors", made_by="")
    assert found.keys() == named.keys()
    assert all(torch.equal(found[name], named[name]) for name in found)


@pytest.mark.parametrize("trial", [0, 3])
def test_a_student_killed_in_its_pilot_comes_to_the_same_bytes(
    folder: Path, chosen: Path, monkeypatch: pytest.MonkeyPatch, trial: int
) -> None:
    expected = files_of(chosen / "data/train_student")
    with_student(folder, **AUTO)
    real, calls = pipeline.student.run.StudentTask, iter(range(10))

    def killed(*args: Any) -> Task[Any]:
        task: Task[Any] = real(*args)
        if next(calls) != trial:
            return task
        task.loss = dying(task.loss, 5)  # type: ignore[method-assign]
        return task

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.student.run, "StudentTask", killed)
        with pytest.raises(KeyboardInterrupt):
            run_student(folder)
    (scratch,) = (folder / "work").glob("train_student-small-*")
    assert len(list((scratch / "pilot").glob("*.json"))) == trial
    run_student(folder)
    assert files_of(folder / "data/train_student") == expected


def dying(loss: Callable[..., torch.Tensor], after: int) -> Callable[..., torch.Tensor]:
    calls = iter(range(10**6))

    def wrapped(model: Any, batch: Any) -> torch.Tensor:
        if next(calls) == after:
            raise KeyboardInterrupt
        return loss(model, batch)

    return wrapped


def test_a_store_that_serves_one_temperature_leaves_no_choice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_student(folder, temperature="auto", labels="drawn")
    run_student(folder)
    assert "temperature 1, the only one" in capsys.readouterr().err
    settings = read_json(folder / "data/train_student/small/meta.json", made_by="")["settings"]
    assert (settings["temperature"], settings["temperature_pilot"]) == (1.0, {})


def test_a_trial_is_past_its_losses_warm_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = {"kind": "dkd", "standardize": False, "target_weight": 1.0, "other_weight": 2.0, "warmup_epochs": 20}
    with_student(folder, temperature="auto", loss=loss)
    met: list[int] = []
    real = pipeline.student.run.StudentTask

    def watched(row: TrainStudent, *others: Any) -> Task[Any]:
        met.append(row.loss["warmup_epochs"])
        return real(row, *others)

    monkeypatch.setattr(pipeline.student.run, "StudentTask", watched)
    run_student(folder)
    assert met == [1, 1, 20]
    settings = read_json(folder / "data/train_student/small/meta.json", made_by="")["settings"]
    assert settings["loss"] == loss


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (
            {"temperature": "auto", "soft_weight": 0.0, "labels": "none"},
            ["students.small.temperature", "soft_weight 0"],
        ),
        (
            {"hard_weight": "auto"},
            ["students.small: hard_weight auto and soft_weight 0.5", "two numbers, or auto for both"],
        ),
        ({"soft_weight": "auto", "hard_weight": 0.0}, ["hard_weight 0.0 and soft_weight auto", "auto for both"]),
        ({"hard_weight": "atuo"}, ["students.small.hard_weight: 'atuo'", "a number from 0 to 1,000,000, or auto"]),
        ({**AUTO, "labels": "none"}, ["students.small.labels: 'none' holds no soft labels"]),
        ({"temperature": "atuo"}, ["students.small.temperature: 'atuo'", "a number above 0, or auto"]),
        ({"temperature": 3.0, "labels": "top2"}, ["temperature: 3,", "1, 2"]),
        ({"loss": {"kind": "kdd", "standardize": False}}, ["students.small.loss.kind", "'kd'"]),
        ({"loss": {"kind": "kd"}}, ["students.small.loss.standardize", "missing"]),
        (
            {"loss": {"kind": "kd", "standardize": True}, "labels": "top2"},
            ["students.small.loss:", "'kd', standardised,", "'top2'", "encoding topk", "a dense encoding", "`labels`"],
        ),
        (
            {"loss": {"kind": "nkd", "standardize": False, "gamma": 1.5}, "labels": "drawn", "temperature": 1.0},
            ["students.small.loss:", "'nkd'", "'drawn'", "some classes' probabilities only", "`tail: prior`"],
        ),
        (
            {"loss": {"kind": "mse", "standardize": False}, "labels": "rest"},
            ["students.small.loss:", "'mse'", "'rest'", "a dense encoding"],
        ),
    ],
)
def test_a_loss_or_temperature_that_does_not_fit_is_one_clear_line(
    folder: Path, row: dict[str, Any], parts: list[str]
) -> None:
    with_student(folder, **row)
    with pytest.raises(PipelineError) as caught:
        run_student(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in parts), line
    assert not (folder / "data/train_student").exists()
    assert not list((folder / "work").glob("train_student-small-*"))  # before any work


def test_a_loss_of_one_hard_label_is_refused_on_mixed_views(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ViewSpec, "mixes", property(lambda spec: True))
    with_student(folder, loss={"kind": "nkd", "standardize": False, "gamma": 1.5})
    with pytest.raises(ConfigError, match=r"students\.small\.loss: kind 'nkd' needs one hard label"):
        run_student(folder)


def test_a_student_without_soft_labels_does_not_mind_its_loss(folder: Path) -> None:
    with_student(folder, soft_weight=0.0, labels="none", loss={"kind": "mse", "standardize": True})
    run_student(folder)
    assert "temperature_pilot" not in read_json(folder / "reports/small.json", made_by="")


def test_who_needs_a_number_is_told_where_it_is_still_to_be_chosen() -> None:
    settings = validate(TrainStudent, student(temperature="auto"), "test")
    assert asdict(settings)["temperature"] == "auto"
    with pytest.raises(ConfigError, match="expected a number"):
        _ = settings.known_temperature
