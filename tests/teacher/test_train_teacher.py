"""train_teacher: what a teacher learns from mixed views, images that do not fit in memory, and
views that do not fit the images.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from faults import ended, fork, wait_for
from project import files_of, small_params, write_params

import pipeline.core.arrays
import pipeline.data.images
from pipeline.core.config import load_section
from pipeline.core.errors import ConfigError, one_line_errors
from pipeline.data.budget import MemoryBudget
from pipeline.data.hard_labels import UNLABELLED
from pipeline.data.paging import Paging, window_order
from pipeline.preparation.write import write_dataset
from pipeline.teacher.task import TeacherData, TeacherTask
from pipeline.training.epochs import Epoch
from pipeline.views.operations.cutmix import CutMix
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.spec import ViewSpec
from stages import train_teacher

KILLS = 5


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_hard_labels_are_mixed_as_the_pixels_are(tmp_path: Path, label_smoothing: float, mixed: bool) -> None:
    split, flip = make_split(16), FlipHorizontal(probability=0.5)
    operations = (flip, CutMix(alpha=1.0, probability=1.0)) if mixed else (flip,)
    params = small_params()
    views = ViewSpec(seed=1, plain_first=False, operations=operations)
    params["train_teacher"] |= {"views": views.to_dict(), "label_smoothing": label_smoothing}
    params["train_teacher"]["fit"]["batch_size"] = 16
    settings = load_section(train_teacher.TrainTeacher, "train_teacher", write_params(tmp_path, params))
    images = TeacherData(split, split, MemoryBudget(0, 16, "not streamed"))
    task = TeacherTask(settings, images, torch.device("cpu"))
    (batch,) = task.batches(2, 0)
    (expected,) = Epoch(split, views, view=2, number=2, batch_size=16, seed=0).batches()
    assert torch.equal(batch.inputs, expected.inputs)
    logits = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Says(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return logits

    targets = torch.zeros(16, 4, dtype=torch.float64)
    partners = views.partners(split.sample_ids, 2, 16) if mixed else range(16)
    for place, row in enumerate(window_order(np.arange(16), 2, seed=0).tolist()):
        share = float(batch.own_shares[place]) if batch.own_shares is not None else 1.0
        targets[place, split.hard_labels[row]] += share
        targets[place, split.hard_labels[int(partners[row])]] += 1 - share
    targets = (1 - label_smoothing) * targets + label_smoothing / 4
    wanted = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(task.loss(Says(), batch), wanted, rtol=1e-6, atol=0)
    assert (batch.own_shares is not None) is mixed


def test_views_that_do_not_fit_the_images_are_refused_before_work(tmp_path: Path) -> None:
    params = small_params()
    params["train_teacher"]["views"]["operations"] = [{"kind": "saturation", "strength": 0.5}]
    splits = {name: make_split(8, seed=seed) for seed, name in enumerate(("train", "val", "test"))}
    write_dataset(tmp_path / "data", "made up", tuple("abcd"), splits)
    told = r"params\.yaml: train_teacher\.views\.operations\.0: saturation of images with 1 channel; expected RGB"
    with pytest.raises(ConfigError, match=told):
        train_teacher.main(
            write_params(tmp_path, params), tmp_path / "data", tmp_path / "out", tmp_path, tmp_path / "work"
        )
    assert not (tmp_path / "out").exists()


# Images that do not fit in memory.


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns a data set of 0.9 MB, a third of it without labels, and a teacher that may hold 1
    MB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.arrays, "CHUNK_BYTES", 2048)
        patch.setattr(pipeline.data.images, "IMAGE_CHUNK_BYTES", 2048)
        folder, train = tmp_path_factory.mktemp("project"), make_split(6000)
        train.hard_labels[np.random.default_rng(0).random(6000) < 1 / 3] = UNLABELLED
        splits = {"train": train, "val": make_split(500, seed=1), "test": make_split(8, seed=2)}
        write_dataset(folder / "data", "made up", tuple("abcd"), splits)
        write_teacher_params(folder, memory_budget_mb=1)
        yield folder


def write_teacher_params(folder: Path, **changes: Any) -> Path:
    params = small_params()
    fit = params["train_teacher"]["fit"] | {"epochs": 1, "checkpoint_seconds": 0.05}
    params["train_teacher"] |= {"fit": fit, **changes}
    return write_params(folder, params)


def run_teacher(params: Path, data: Path, folder: Path) -> None:
    train_teacher.main(params, data, folder / "out", folder / "reports", folder / "work")


def start(project: Path, folder: Path) -> int:
    """Starts the stage in a process of its own; returns the process's id."""
    folder.mkdir(exist_ok=True)
    (folder / "said.txt").touch()

    def work() -> None:
        with one_line_errors():
            run_teacher(project / "params.yaml", project / "data", folder)

    return fork(work, folder / "said.txt")


def said_to_go_on(folder: Path) -> int:
    return (folder / "said.txt").read_text().count("going on from epoch")


def test_a_streamed_teacher_killed_at_random_goes_on_to_the_same_bytes(project: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    assert ended(start(project, tmp_path / "whole")) == 0
    seconds = time.monotonic() - began
    said = (tmp_path / "whole/said.txt").read_text()
    assert "train_teacher.memory_budget_mb: inputs take 1 MB, more than three quarters of 1 MB" in said
    rng, victim = random.Random(0), tmp_path / "victim"
    for kills in range(KILLS):
        process = start(project, victim)
        wait_for(lambda kills=kills: said_to_go_on(victim) == kills and any(victim.glob("work/*/*.safetensors")))
        time.sleep(rng.random() * 0.8 * seconds / KILLS)
        os.kill(process, signal.SIGKILL)
        assert ended(process) in (-signal.SIGKILL, 0)
        if any((victim / "out").rglob("weights.safetensors")):
            break  # it was done before it was killed: the machine was slower when it trained undisturbed
    assert ended(start(project, victim)) == 0
    assert said_to_go_on(victim) >= 2
    assert files_of(victim / "out") == files_of(tmp_path / "whole/out")


def test_a_teacher_streamed_in_one_window_is_that_of_memory(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, megabytes in (("streamed", 1), ("held", 100)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(MemoryBudget, "paging", lambda budget, shape, num_rows, *sizes: Paging.whole(num_rows))
        params = write_teacher_params(tmp_path / name, memory_budget_mb=megabytes)
        run_teacher(params, project / "data", tmp_path / name)
    ours, theirs = (files_of(tmp_path / name / "out") for name in ("streamed", "held"))
    assert ours.keys() == theirs.keys()
    assert ours["weights.safetensors"] == theirs["weights.safetensors"]


def test_a_budget_that_is_too_small_is_told_in_one_line(tmp_path: Path) -> None:
    wide = make_split(40, shape=(1, 300, 400))
    write_dataset(tmp_path / "data", "made up", tuple("abcd"), dict.fromkeys(("train", "val", "test"), wide))
    params = write_teacher_params(tmp_path, memory_budget_mb=1)
    told = (
        r"params\.yaml: train_teacher\.memory_budget_mb: 1 MB; expected at least 39 for batches of 64 and windows of 1"
    )
    with pytest.raises(ConfigError, match=told) as error:
        run_teacher(params, tmp_path / "data", tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
