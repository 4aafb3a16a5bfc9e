"""Several students in one pass: each comes to the same bits as alone, whatever is killed or
missing.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from made import Made
from project import files_of, forget, small_params, student, write_params
from runs import CPU, STEPS, Killed, Recorder, assert_same, make_task, net, recipe, scripted
from torch import nn

import pipeline.core.scratch
import pipeline.training.fit
import pipeline.training.trainer
from pipeline.core.errors import PipelineError
from pipeline.training.batches import Batch
from pipeline.training.fit import fit
from pipeline.training.recipe import FitSettings
from pipeline.training.run import FitResult, Workplace
from pipeline.training.trainer import Trainer
from stages import dump_labels, train_student

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Reads no code for a scratch folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.scratch, "code_fingerprint", lambda script: "code")
        yield


# Dropout in all of them; another length, optimizer and number of batches per step in each.
RECIPES: list[FitSettings] = [
    recipe(),
    recipe(epochs=4, optimizer="sgd", checkpoint_seconds=0.02),
    recipe(epochs=3, accumulate_batches=3, learning_rate=0.02, checkpoint_seconds=1e9),  # at ends of epochs alone
    recipe(epochs=4, patience_epochs=1),
]
ACCURACIES = [0.5, 0.6, 0.6, 0.7]  # of the last run in the list, which stops after three epochs


def trainers(folder: Path) -> "list[Trainer[Batch]]":
    """Returns the runs as their folders have them, in what may be a new process."""
    runs: list[Trainer[Batch]] = []

    def by_epoch(model: nn.Module) -> dict[str, float]:
        return {"accuracy": ACCURACIES[runs[-1].state.epoch]}

    for number, settings in enumerate(RECIPES):
        torch.manual_seed(number)
        task = make_task(validate=by_epoch) if settings.patience_epochs else make_task()
        runs.append(Trainer(net(number), task, settings, Workplace(folder / str(number), CPU, f"run{number}")))
    return runs


class Together:
    """A source of batches that are made once for all runs; it notes what was asked for."""

    def __init__(self, kill: int = -1) -> None:
        self.kill = kill
        self.asked: list[tuple[list[int], int, int]] = []
        self.made: list[tuple[int, int]] = []

    def __call__(self, places: Sequence[int], epoch: int, start: int) -> Iterator[tuple[Batch, ...]]:
        self.asked.append((list(places), epoch, start))
        for step, batch in enumerate(make_task().batches(epoch, start), start):
            if epoch * STEPS + step == self.kill:
                raise Killed
            self.made.append((epoch, step))
            torch.rand(7)  # random numbers that somebody else draws
            yield (batch,) * len(places)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[FitResult]:
    """Returns the result of each run by itself."""
    results = []
    for number, settings in enumerate(RECIPES):
        torch.manual_seed(number)
        task = make_task(validate=scripted(*ACCURACIES)) if settings.patience_epochs else make_task()
        workplace = Workplace(tmp_path_factory.mktemp("alone"), CPU, f"run{number}")
        results += fit([Trainer(net(number), task, settings, workplace)])
    assert [result.state.epoch for result in results] == [2, 4, 3, 3]
    return results


def assert_all_same(results: list[FitResult], expected: list[FitResult]) -> None:
    assert len(results) == len(expected)
    for ours, theirs in zip(results, expected, strict=True):
        assert_same(ours, theirs)


def test_each_of_several_comes_to_what_it_comes_to_alone(tmp_path: Path, alone: list[FitResult]) -> None:
    together = Together()
    assert_all_same(fit(trainers(tmp_path), together), alone)
    assert together.made == [(epoch, step) for epoch in range(4) for step in range(STEPS)]  # each batch once
    assert together.asked == [([0, 1, 2, 3], 0, 0), ([0, 1, 2, 3], 1, 0), ([1, 2, 3], 2, 0), ([1], 3, 0)]


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 2, 3 * STEPS + 3])
def test_a_killed_pass_goes_on_to_the_same_bits(tmp_path: Path, alone: list[FitResult], step: int) -> None:
    with pytest.raises(Killed):
        fit(trainers(tmp_path), Together(step))
    assert_all_same(fit(trainers(tmp_path), Together()), alone)


@pytest.mark.parametrize("writes", [1, 2, 11, 13, 22])
def test_a_pass_killed_between_two_checkpoints_goes_on_to_the_same_bits(
    tmp_path: Path, alone: list[FitResult], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    write, left = pipeline.training.trainer.write_checkpoint, iter(range(writes))

    def until_killed(folder: Path, tag: str, state: object) -> None:
        if next(left, None) is None:
            raise Killed
        write(folder, tag, state)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.training.trainer, "write_checkpoint", until_killed)
        with pytest.raises(Killed):
            fit(trainers(tmp_path), Together())
    assert_all_same(fit(trainers(tmp_path), Together()), alone)


def test_runs_that_stand_far_apart_are_brought_together(tmp_path: Path, alone: list[FitResult]) -> None:
    run = trainers(tmp_path)[1]
    with pytest.raises(Killed):
        fit([run], Together(2 * STEPS + 3))
    assert (run.state.epoch, run.state.step) == (2, 3)
    together = Together()
    assert_all_same(fit(trainers(tmp_path), together), alone)
    assert together.asked == [([0, 2, 3], 0, 0), ([0, 2, 3], 1, 0), ([1, 2, 3], 2, 0), ([1], 3, 0)]


def test_the_bar_of_a_pass_counts_its_batches_and_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = Recorder()
    monkeypatch.setattr(pipeline.training.fit, "progress", bar)
    with pytest.raises(Killed):
        fit(trainers(tmp_path), Together(STEPS + 1))
    fit(trainers(tmp_path), Together())
    assert bar.name == "run0 and 3 more"
    assert sum(bar.counts) == bar.total == 4 * STEPS


# The stage, in small. One view is stored: the second epoch shows a new one.

GROUP = {
    "big": {"model_settings": {"width": 6, "depth": 1}},
    "warm": {"labels": "dense16", "temperature": 1.0, "seed": 0},
    "hard": {"labels": "none", "twin_of": "big", "hard_weight": 1.0, "soft_weight": 0.0},
}


def params(group: str | None, edit: Change = lambda rows: None) -> dict[str, Any]:
    rows = {name: student(**changes, group=group, new_views=True) for name, changes in GROUP.items()}
    for row in rows.values():
        row["fit"] = row["fit"] | {"checkpoint_seconds": 0.03}
    rows["warm"]["fit"] |= {"epochs": 1, "learning_rate": 0.02, "accumulate_batches": 2}
    edit(rows)
    content = small_params() | {"students": {**rows, "lonely": student(seed=9)}}
    content["dump_labels"]["num_views"] = 1
    return content


def run_student(folder: Path, name: str) -> None:
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


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a project with its label stores, and no student yet."""
    return made.copy(params("farm"), "dump_labels", tmp_path_factory.mktemp("begun"))


@pytest.fixture(scope="module")
def by_themselves(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Returns the output of each student that was trained without a group."""
    folder = Path(shutil.copytree(begun, tmp_path_factory.mktemp("alone") / "project"))
    write_params(folder, params(None))
    for name in GROUP:
        run_student(folder, name)
    return {name: files_of(folder / "data/train_student" / name) for name in GROUP}


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "project"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Batches that each student took."""
    taken: dict[str, int] = {}
    step = Trainer.step

    def count(run: "Trainer[Any]", batch: object) -> None:
        name = run.name.removeprefix("train_student@")
        taken[name] = taken.get(name, 0) + 1
        step(run, batch)

    monkeypatch.setattr(Trainer, "step", count)
    return taken


def output(folder: Path, name: str) -> dict[str, bytes]:
    return files_of(folder / "data/train_student" / name)


def published(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data/train_student").glob("*"))


def test_a_group_is_trained_by_the_first_and_put_in_place_one_by_one(
    folder: Path,
    by_themselves: dict[str, dict[str, bytes]],
    steps: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_student(folder, "big")
    assert published(folder) == ["big"]
    told = capsys.readouterr().err
    assert "trained in the same pass: hard, warm;" in told
    assert "train_student@warm: new_views: true changes nothing: 1 of 1 epochs have a stored view" in told
    assert "train_student@big: new_views" not in told
    assert steps == {"big": 2 * steps["warm"], "warm": steps["warm"], "hard": 2 * steps["warm"]}
    steps.clear()
    assert not (folder / "reports/hard.json").exists()
    run_student(folder, "hard")
    run_student(folder, "warm")
    assert steps == {}
    assert {name: output(folder, name) for name in GROUP} == by_themselves
    assert all((folder / f"reports/{name}.{kind}").exists() for name in GROUP for kind in ("json", "tsv"))
    assert not list((folder / "work").glob("train_student-*-????????????????"))


def test_who_is_in_no_group_is_trained_alone(folder: Path, steps: dict[str, int]) -> None:
    run_student(folder, "lonely")
    assert list(steps) == ["lonely"]
    assert published(folder) == ["lonely"]


@pytest.mark.parametrize("last", [20, 60])
def test_a_killed_group_goes_on_under_another_members_name(
    folder: Path,
    by_themselves: dict[str, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    last: int,
) -> None:
    step, left = Trainer.step, iter(range(last))

    def until_killed(run: "Trainer[Any]", batch: object) -> None:
        if next(left, None) is None:
            raise Killed
        step(run, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", until_killed)
        with pytest.raises(Killed):
            run_student(folder, "big")
    for name in ("hard", "big", "warm"):
        run_student(folder, name)
    assert {name: output(folder, name) for name in GROUP} == by_themselves


def test_a_member_that_another_process_works_on_is_left_to_it(
    folder: Path,
    by_themselves: dict[str, dict[str, bytes]],
    steps: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FileLock(folder / "work/train_student-warm.lock"):
        run_student(folder, "big")
    assert "train_student@warm: another process is at work on this" in capsys.readouterr().err
    assert sorted(steps) == ["big", "hard"]
    run_student(folder, "warm")
    assert "warm" in steps
    assert output(folder, "big") == by_themselves["big"]
    assert output(folder, "warm") == by_themselves["warm"]


@pytest.fixture(scope="module")
def trained(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a project whose students are trained, one of them removed as DVC does."""
    folder = Path(shutil.copytree(begun, tmp_path_factory.mktemp("trained") / "project"))
    for name in GROUP:
        run_student(folder, name)
    forget(folder, "train_student/big")
    return folder


@pytest.fixture
def all_but_one(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "project"))


@pytest.mark.parametrize("what", ["finished", "put back by DVC", "made elsewhere"])
def test_members_that_are_up_to_date_are_not_trained_again(all_but_one: Path, steps: dict[str, int], what: str) -> None:
    for name in ("warm", "hard"):
        if what == "put back by DVC":
            for path in (all_but_one / "data/train_student" / name).iterdir():
                os.utime(path, (1, 1))
        if what == "made elsewhere":
            (all_but_one / f"work/train_student-{name}.done.json").unlink()
    run_student(all_but_one, "big")
    assert list(steps) == ["big"]
    assert not list((all_but_one / "work").glob("train_student-*-????????????????"))


def test_members_whose_settings_have_changed_are_trained_again(all_but_one: Path, steps: dict[str, int]) -> None:
    write_params(all_but_one, params("farm", lambda rows: rows["hard"]["fit"].update(learning_rate=0.02)))
    before = output(all_but_one, "hard")
    run_student(all_but_one, "big")
    assert sorted(steps) == ["big", "hard"]
    assert output(all_but_one, "hard") == before  # until its own stage runs
    steps.clear()
    run_student(all_but_one, "hard")
    assert steps == {}
    assert output(all_but_one, "hard") != before


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda r: r["hard"].update(seed=1), ["students.hard.seed", "students.big.seed"]),
        (lambda r: r["warm"]["fit"].update(batch_size=32), ["students.warm.fit.batch_size", "students.big.fit"]),
        (lambda r: r["hard"].update(new_views=False), ["students.hard.new_views", "students.big.new_views"]),
        (lambda r: r["warm"].update(memory_budget_mb=9), ["students.warm.memory_budget_mb", "students.big.memory"]),
        (lambda r: r["warm"].update(device="auto"), ["students.warm.device", "students.big.device"]),
        (lambda r: r["warm"].update(labels="dense9"), ["dense9", "students.warm.labels"]),
        (lambda r: r["warm"].update(temperatur=1.0), ["students.warm.temperatur", "'temperature'"]),
        (lambda r: r["warm"]["fit"].update(epochs=0), ["students.warm.fit.epochs"]),
        (lambda r: r["warm"]["model_settings"].update(widht=3), ["widht", "'width'"]),
        (lambda r: r["hard"].update(soft_weight=1.0), ["students.hard", "soft_weight"]),
        (lambda r: r["warm"]["fit"].update(learning_rate=1e6, weight_decay=1e6), ["train_student@warm"]),
    ],
)
def test_a_mistake_in_a_member_is_one_line_that_names_it(folder: Path, edit: Change, parts: list[str]) -> None:
    write_params(folder, params("farm", edit))
    with pytest.raises(PipelineError) as caught:
        run_student(folder, "big")
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in parts), line
    assert published(folder) == []


def test_stores_of_other_views_are_in_no_common_group(folder: Path) -> None:
    project = folder.parent / "other"
    other = params("farm")
    other["dump_labels"]["views"]["seed"] = 77
    path, data = write_params(shutil.copytree(folder, project), other), project / "data"
    dump_labels.main(path, data / "prepare", data / "train_teacher", data / "dump_labels", project / "work")
    shutil.rmtree(folder / "data/dump_labels/dense16.zarr")
    shutil.copytree(data / "dump_labels/dense16.zarr", folder / "data/dump_labels/dense16.zarr")
    with pytest.raises(PipelineError, match=r"students\.warm\.labels: .*dense16.zarr has other views than .*dense8"):
        run_student(folder, "big")
