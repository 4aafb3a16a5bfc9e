"""train_teacher: what a teacher learns of mixed views, and views that do not fit the images."""

from pathlib import Path

import pytest
import torch
from conftest import make_split
from project import small_params, write_params

from pipeline.batches import training_batches
from pipeline.config import load_section
from pipeline.errors import ConfigError
from pipeline.preparation.splits import write_dataset
from pipeline.views import CutMix, FlipHorizontal, ViewSpec
from stages import train_teacher


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
    task = train_teacher._task(settings, split, split, torch.device("cpu"))
    (batch,) = task.batches(2, 0)
    (expected,) = training_batches(split, views, view=2, epoch=2, batch_size=16, seed=0)
    assert torch.equal(batch.images, expected.images)
    logits = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Says(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return logits

    targets = torch.zeros(16, 4, dtype=torch.float64)
    partners = views.partners(split.sample_ids, 2, 16) if mixed else range(16)
    for place, row in enumerate(batch.row_index.tolist()):
        share = float(batch.own_shares[place]) if batch.own_shares is not None else 1.0
        targets[place, split.hard_labels[row]] += share
        targets[place, split.hard_labels[int(partners[row])]] += 1 - share
    targets = (1 - label_smoothing) * targets + label_smoothing / 4
    wanted = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(task.loss(Says(), batch), wanted, rtol=1e-6, atol=0)
    assert (batch.own_shares is not None) is mixed


def test_views_that_do_not_fit_the_images_are_refused_before_work(tmp_path: Path) -> None:
    params = small_params()
    params["train_teacher"]["views"]["operations"].append({"kind": "saturation", "strength": 0.5})
    splits = {name: make_split(8, seed=seed) for seed, name in enumerate(("train", "val", "test"))}
    write_dataset(tmp_path / "data", "made up", tuple("abcd"), splits)
    told = r"params\.yaml: train_teacher\.views\.operations\.1: saturation of images with 1 channel; expected RGB"
    with pytest.raises(ConfigError, match=told):
        train_teacher.main(
            write_params(tmp_path, params), tmp_path / "data", tmp_path / "out", tmp_path, tmp_path / "work"
        )
    assert not (tmp_path / "out").exists()
