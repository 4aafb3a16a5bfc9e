"""Several processes train one network: they come to what one comes to, whoever is killed, and speak
with one voice.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import wait_for
from made import Made
from project import environment, files_of, small_params, student, write_params
from runs import CPU, EPOCHS, SPEC, STEPS, TRAIN, VAL, Killed, Net, make_task, recipe
from teams import Members
from torch import nn
from torch.nn.functional import batch_norm, cross_entropy

import pipeline.core.arrays
import pipeline.core.files
import pipeline.core.scratch
import pipeline.data.budget
import pipeline.data.images
import pipeline.training.team
from pipeline.core.closure import TOP
from pipeline.core.errors import ConfigError
from pipeline.core.files import write_json
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.models.predict import predict_logits
from pipeline.signals.metrics import classification_metrics
from pipeline.training.batches import WHOLE, Batch, Share, num_steps
from pipeline.training.epochs import Epoch
from pipeline.training.fit import fit
from pipeline.training.run import FitResult, Workplace
from pipeline.training.team import ALONE, Team
from pipeline.training.trainer import Task, Trainer
from stages import train_student, train_teacher

Work = Callable[[Team, Path], object]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Makes chunks and megabytes small, so that a little data can be streamed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.arrays, "CHUNK_BYTES", 2048)
        patch.setattr(pipeline.data.images, "IMAGE_CHUNK_BYTES", 2048)
        patch.setattr(pipeline.data.budget, "_MEGABYTE", 120_000)
        patch.setattr(pipeline.core.scratch, "code_fingerprint", lambda script: "this code")
        yield


# Shares.


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [7, 8, 64, 65])
def test_shares_are_the_whole_even_and_weighed_by_their_size(count: int, world: int) -> None:
    shares = [Share(rank, world) for rank in range(world)]
    places = [range(count)[share.of(count)] for share in shares]
    assert [place for part in places for place in part] == list(range(count))
    sizes = [share.size(count) for share in shares]
    assert sizes == [len(part) for part in places]
    assert max(sizes) - min(sizes) <= 1
    values = torch.rand(count, dtype=torch.float64)
    means = [share.weight(count) * values[share.of(count)].mean() for share in shares]
    torch.testing.assert_close(torch.stack(means).mean(), values.mean())
    assert WHOLE.weight(count) == 1


@pytest.mark.parametrize("batch_size", [16, 13, 64, 100])
def test_the_shares_of_batches_are_the_batches_of_one_process(batch_size: int) -> None:
    def batches(share: Share) -> Iterator[Batch]:
        return Epoch(TRAIN, SPEC, view=1, number=1, batch_size=batch_size, seed=1, share=share).batches()

    for whole, *parts in zip(*(batches(share) for share in (WHOLE, *(Share(r, 3) for r in range(3)))), strict=True):
        assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
        assert torch.equal(torch.cat([part.hard_labels for part in parts]), whole.hard_labels)
        assert [len(part.inputs) for part in parts] == [Share(r, 3).size(len(whole.inputs)) for r in range(3)]
    shown = torch.cat([images for rank in range(3) for images in VAL.in_order(5, Share(rank, 3).of(len(VAL)))])
    assert torch.equal(shown, VAL.inputs)


def test_a_process_knows_its_team() -> None:
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    address = {"MASTER_ADDR": "here", "MASTER_PORT": "1234"}
    assert Team.of(told | address) == Team(5, 8, 1, 4)
    assert Team.of(told) == Team.of({}) == Team.of({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}) == ALONE
    assert Team.of(told | address).share == Share(5, 8)


# The loop, in two processes and in one.


class Wide(Net):
    """A network that computes in the format of its weights and drops nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.second(self.conv(pixels.to(self.conv.weight.dtype) / 255))))
        logits: torch.Tensor = self.head(self.dropout(features.flatten(1)))
        return logits


class ActivatedNorm(nn.BatchNorm2d):
    """A norm as timm has it: with more in it, which nobody may put another norm in place of."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        normed = batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
        )
        return normed.square()


def network(kind: type[Net], norm: type[nn.BatchNorm2d] = nn.BatchNorm2d, dtype: torch.dtype = torch.float32) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind()
        model.norm = norm(8)
        return model.to(dtype=dtype, memory_format=torch.channels_last)


def team_task(team: Team, batch_size: int, kill: int = -1) -> Task[Batch]:
    """Returns a task as stages make it; its batches end in a kill before a step, counted over all
    epochs.
    """
    steps, weight = num_steps(len(TRAIN), batch_size), team.share.weight(batch_size)

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        made = Epoch(TRAIN, SPEC, view=epoch, number=epoch, batch_size=batch_size, seed=1, share=team.share)
        for number, batch in enumerate(made.batches(start), start=epoch * steps + start):
            if number == kill:
                raise Killed
            yield batch

    def validate(model: nn.Module) -> dict[str, float]:
        logits = predict_logits(model, VAL.in_order(5, team.share.of(len(VAL))), CPU)
        return classification_metrics(team.join_rows(logits, len(VAL)), VAL.hard_labels)

    return make_task(
        batches=batches,
        steps_per_epoch=steps,
        loss=lambda model, batch: weight * cross_entropy(model(batch.inputs), batch.hard_labels),
        validate=validate,
    )


def train(team: Team, folder: Path, model: nn.Module, kill: int = -1, **settings: Any) -> FitResult | None:
    """Trains a run in a folder; returns its result, or None where it was killed."""
    settings = recipe(**{"checkpoint_seconds": 1000, **settings})
    torch.manual_seed(5 + team.rank)
    head = {"head.weight", "head.bias"}
    try:
        task = team_task(team, settings.batch_size, kill)
        (result,) = fit([Trainer(model, task, settings, Workplace(folder / "scratch", CPU, "run", team), head)])
    except Killed:
        return None
    if team.is_first:
        write_tensors(folder / "last.safetensors", result.last)
        write_json(folder / "history.json", result.state.history)
    return result


def in_team(folder: Path, world: int, work: Work) -> Members:
    """Runs what each of several processes does, to its end."""

    def member() -> None:
        team = Team.of(os.environ)
        team.connect(CPU, 16, "params.yaml: x")
        work(team, folder)

    members = Members(folder, world, pipeline.training.team.one_voice()(member))
    assert members.ended() == [0] * world, members.said()
    return members


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "uneven": {"batch_size": 13},
    "accumulated": {"accumulate_batches": 3},
    "frozen": {"freeze_epochs": 1, "layer_decay": 0.5},
    "sgd": {"optimizer": "sgd"},
}


def train_all(team: Team, folder: Path) -> None:
    """Trains all runs in either format, one after the other."""
    for dtype in (torch.float32, torch.float64):
        for name, settings in RUNS.items():
            train(team, folder / name / str(dtype), network(Wide, dtype=dtype), **settings)
        train(team, folder / "norm" / str(dtype), network(Wide, ActivatedNorm, dtype))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, quick: None) -> tuple[Path, Path]:
    """Returns what all runs come to in one process, and in two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    train_all(ALONE, one)
    in_team(two, 2, train_all)
    return one, two


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*RUNS, "norm"])
def test_two_processes_come_to_what_one_comes_to(both: tuple[Path, Path], name: str, dtype: torch.dtype) -> None:
    one, two = (folder / name / str(dtype) for folder in both)
    weights, expected = (read_tensors(folder / "last.safetensors", made_by="x") for folder in (two, one))
    assert weights.keys() == expected.keys() == network(Wide).state_dict().keys()
    tolerance = {torch.float32: 5e-6, torch.float64: 1e-14}[dtype]
    for key, tensor in expected.items():
        torch.testing.assert_close(weights[key], tensor, rtol=tolerance, atol=tolerance, msg=key)
    histories = [pipeline.core.files.read_json(folder / "history.json", made_by="x") for folder in (two, one)]
    for ours, theirs in zip(*histories, strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)


def test_only_the_first_speaks(both: tuple[Path, Path]) -> None:
    said = (both[1] / "said-0.txt").read_text()
    assert said.count("run: epoch 2/2") == 2 * (len(RUNS) + 1)
    assert (both[1] / "said-1.txt").read_text() == ""


@pytest.mark.parametrize(("before", "after", "step"), [(2, 1, 3), (1, 2, STEPS + 2), (3, 2, STEPS + 1)])
def test_another_number_of_processes_goes_on(
    both: tuple[Path, Path], tmp_path: Path, before: int, after: int, step: int
) -> None:
    settings = {"checkpoint_seconds": 0, **RUNS["plain"]}

    def begin(team: Team, folder: Path) -> None:
        assert train(team, folder, network(Wide), step, **settings) is None

    in_team(tmp_path, before, begin)
    members = in_team(tmp_path, after, lambda team, folder: train(team, folder, network(Wide), **settings))
    assert f"going on from epoch {step // STEPS + 1}, step {step % STEPS}" in members.said()
    weights = read_tensors(tmp_path / "last.safetensors", made_by="x")
    expected = read_tensors(both[0] / "plain/torch.float32/last.safetensors", made_by="x")
    for key, tensor in expected.items():
        torch.testing.assert_close(weights[key], tensor, rtol=5e-6, atol=5e-6, msg=key)


def test_two_killed_processes_go_on_to_the_same_bits_dropout_and_all(tmp_path: Path) -> None:
    kills = [-1, 3, STEPS, EPOCHS * STEPS - 1]

    def work(team: Team, folder: Path) -> None:
        for kill in kills:
            train(team, folder / str(kill), network(Net), kill, checkpoint_seconds=0)
            team.gather(None)  # who starts processes again waits until the last one of them has ended
            if kill >= 0:
                torch.manual_seed(99)
                train(team, folder / str(kill), network(Net), checkpoint_seconds=0)

    in_team(tmp_path, 2, work)
    whole, *others = (read_tensors(tmp_path / str(kill) / "last.safetensors", made_by="x") for kill in kills)
    for weights in others:
        assert all(torch.equal(tensor, weights[name]) for name, tensor in whole.items())


def test_checkpoints_by_the_clock_come_in_all_processes_at_once(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 6, "checkpoint_seconds": 0.01, "accumulate_batches": 3}
    in_team(tmp_path, 2, lambda team, folder: train(team, folder, network(Net), **settings))
    assert len(list((tmp_path / "scratch").iterdir())) == 2


class Idle(Wide):
    """A network with a layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(2, 2)


def test_a_parameter_without_a_part_in_the_loss_is_named(tmp_path: Path) -> None:
    def member() -> None:
        team = Team.of(os.environ)
        team.connect(CPU, 16, "params.yaml: x")
        train(team, tmp_path, network(Idle))

    members = Members(tmp_path, 2, pipeline.training.team.one_voice()(member))
    assert members.ended()[0] == 1
    lines = [line for line in members.said().splitlines() if "error" in line.lower()]
    assert len(lines) == 1
    assert lines[0].startswith("error: Idle: idle.weight has no part in the loss, nor have 1 more; freeze it")


# The stages.

FIT = small_params()["train_teacher"]["fit"] | {"batch_size": 65, "checkpoint_seconds": 1000.0}
STUDENTS = {
    "small": student(fit=FIT | {"checkpoint_seconds": 0.0}),
    "streamed": student(fit=FIT, labels="top2", loss={"kind": "kd", "standardize": False}, memory_budget_mb=1),
    "auto": student(fit=FIT, temperature="auto"),
    "one": student(fit=FIT, group="two", seed=3),
    "other": student(fit=FIT | {"accumulate_batches": 2}, group="two", seed=3, labels="dense16"),
    "dist": student(loss={"kind": "dist", "standardize": False, "inter_class_weight": 1.0, "intra_class_weight": 1.0}),
}


def run_teacher(folder: Path) -> None:
    data = folder / "data"
    train_teacher.main(
        folder / "params.yaml", data / "prepare", data / "train_teacher", folder / "reports", folder / "work"
    )


def run_student(folder: Path, name: str) -> None:
    data = folder / "data"
    train_student.main(
        name,
        folder / "params.yaml",
        data / "prepare",
        str(data / "dump_labels"),
        data / "train_student",
        folder / "reports/train_student",
        folder / "work",
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, made: Made, quick: None) -> Path:
    """Returns a project with a teacher and labels, and no student yet."""
    params = small_params()
    params["train_teacher"]["fit"] = FIT
    params["students"] = STUDENTS
    return made.copy(params, "dump_labels", tmp_path_factory.mktemp("begun"))


@pytest.fixture(scope="module")
def alone(begun: Path) -> Path:
    """Returns the students that one process trains."""
    for name in STUDENTS:
        if name != "dist":
            run_student(begun, name)
    return begun


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    """Returns a project of its own without a student."""
    for name in ("params.yaml", "data"):
        (shutil.copytree if name == "data" else shutil.copy)(begun / name, tmp_path / name)
    shutil.rmtree(tmp_path / "data/train_student", ignore_errors=True)
    return tmp_path


def assert_close(ours: Path, theirs: Path) -> None:
    """Checks that the files are the same, apart from weights, which may differ by the rounding of
    sums.
    """
    assert files_of(ours).keys() == files_of(theirs).keys()
    for file in ours.glob("*.safetensors"):
        weights, expected = (read_tensors(place, made_by="x") for place in (file, theirs / file.name))
        assert weights.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(weights[name], tensor, rtol=5e-6, atol=5e-6, msg=name)


def output(folder: Path, name: str) -> Path:
    return folder / "data/train_student" / name


def student_in_team(folder: Path, name: str, world: int = 2) -> Members:
    return Members(folder, world, lambda: run_student(folder, name))


@pytest.mark.parametrize("name", ["small", "streamed", "auto"])
def test_a_student_of_two_processes_is_that_of_one(folder: Path, alone: Path, name: str) -> None:
    members = student_in_team(folder, name)
    assert members.ended() == [0, 0], members.said()
    assert_close(output(folder, name), output(alone, name))
    said = members.said()
    assert said.count(f"train_student@{name}: epoch 2/2") == 1
    assert ("so they are streamed" in said) == (name == "streamed")
    assert said.count(", the lowest that comes within") == (name == "auto")
    assert not any(path.is_dir() and path.suffix != ".kept" for path in (folder / "work").iterdir())
    assert (folder / f"reports/train_student/{name}.tsv").exists()


def test_a_team_trains_a_group_in_one_pass_and_does_nothing_twice(folder: Path, alone: Path) -> None:
    for name, said in {"one": "trained in the same pass: other;", "other": "other: was trained before"}.items():
        members = student_in_team(folder, name)
        assert members.ended() == [0, 0], members.said()
        assert members.said().count(said) == 1
        assert_close(output(folder, name), output(alone, name))
    again = student_in_team(folder, "other")
    assert again.ended() == [0, 0]
    assert again.said().count("nothing to do") == 1


def test_torchrun_trains_the_teacher_that_one_process_trains(folder: Path, begun: Path) -> None:
    shutil.rmtree(folder / "data/train_teacher")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "stages.train_teacher"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert_close(folder / "data/train_teacher", begun / "data/train_teacher")
    assert done.stderr.count("train_teacher: epoch 2/2") == done.stderr.count("calibration temperature") == 1
    assert "Warning" not in done.stderr


def test_a_teacher_that_is_streamed_by_two_processes_is_that_of_one(begun: Path, tmp_path: Path) -> None:
    params = small_params()
    params["train_teacher"] |= {"fit": FIT, "memory_budget_mb": 1}
    for name in ("one", "two"):
        shutil.copytree(begun / "data/prepare", tmp_path / name / "data/prepare")
        write_params(tmp_path / name, params)
    run_teacher(tmp_path / "one")
    members = Members(tmp_path / "two", 2, lambda: run_teacher(tmp_path / "two"))
    assert members.ended() == [0, 0], members.said()
    assert members.said().count("so they are streamed") == 1
    assert_close(tmp_path / "two/data/train_teacher", tmp_path / "one/data/train_teacher")


def checkpoints(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("work/*/checkpoint-*.safetensors")]


def kill_one(members: Members, folder: Path, rank: int, after: str) -> None:
    """Kills one process as soon as there is a checkpoint later than `after`."""
    wait_for(lambda: any(name > after for name in checkpoints(folder)))
    os.kill(members.processes[rank], signal.SIGKILL)


def test_a_team_of_which_one_is_killed_goes_on_to_the_same_bytes(folder: Path, alone: Path, tmp_path: Path) -> None:
    for rank, after in enumerate(["checkpoint-0-5", "checkpoint-1-1"]):
        members = student_in_team(folder, "small")
        kill_one(members, folder, rank, after)
        statuses = members.ended()
        assert statuses[rank] == -signal.SIGKILL, members.said()
        assert checkpoints(folder)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    shutil.rmtree(whole / "work")
    for place, world in ((folder, 2), (whole, 2), (copy, 1)):
        members = student_in_team(place, "small", world)
        assert members.ended() == [0] * world, members.said()
        assert ("going on with unfinished work" in members.said()) == (place != whole)
        assert_close(output(place, "small"), output(alone, "small"))
    assert files_of(output(folder, "small")) == files_of(output(whole, "small"))


def test_who_loses_the_others_says_so_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.training.team, "_GRACE_SECONDS", 0.1)
    members = student_in_team(folder, "small")
    kill_one(members, folder, 1, "")
    assert members.ended(terminate=False) == [1, -signal.SIGKILL]
    last = members.said().splitlines()[-1]
    assert last.startswith("error: process 0 of 2: lost the others (")
    assert last.endswith("; run the same command to go on")


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        (
            "dist",
            lambda row: None,
            "students.dist.loss: kind 'dist' compares the examples of a batch, which 2 processes",
        ),
        ("small", lambda row: row["fit"].update(batch_size=1), "students.small.fit.batch_size: 1 for 2 processes"),
        ("small", lambda row: row["fit"].update(learning_rate=1e6, weight_decay=1e6), "train_student@small: "),
        ("small", lambda row: row.update(device="cuda"), "device 'cuda': not on this machine"),
        ("small", lambda row: row.update(labels="dense9"), "dense9.zarr: no such store"),
    ],
)
def test_a_mistake_ends_all_with_one_line(folder: Path, name: str, change: Change, line: str) -> None:
    if "cuda" in line and torch.cuda.is_available():
        pytest.skip("there is one")
    params = small_params()
    params["students"] = {name: STUDENTS[name] | {"fit": dict(STUDENTS[name]["fit"])}}
    change(params["students"][name])
    write_params(folder, params)
    members = student_in_team(folder, name)
    assert sorted(members.ended()) == [-signal.SIGTERM, 1], members.said()
    errors = [said for said in members.said().splitlines() if "rror" in said]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert line in errors[0]
    assert not output(folder, name).exists()


def test_devices_that_processes_can_not_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"students.x.device: mps for 2 processes; expected cuda or cpu"):
        Team(0, 2, 0, 2).connect(torch.device("mps"), 64, "students.x")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"--nproc-per-node: 2; expected at most 1, one for a GPU"):
        Team(1, 2, 1, 2).connect(torch.device("cuda", 0), 64, "students.x")


def test_one_process_sets_nothing_up() -> None:
    ALONE.connect(CPU, 1, "x")
    assert not torch.distributed.is_initialized()
    model = nn.Linear(2, 2)
    assert ALONE.replicate(model) is model
