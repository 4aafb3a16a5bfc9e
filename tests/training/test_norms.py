"""A norm that is given a single value is named, in one line that says what to change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from runs import fit_one, make_task, recipe
from torch import nn

from pipeline.core.errors import ModelError


class Shrinking(nn.Module):
    """A network that shrinks images to one value of each channel."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 12)
        self.body = nn.Sequential(nn.ReLU(), norm)
        self.head = nn.Linear(4, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(self.conv(pixels.float() / 255)).flatten(1))
        return logits


class Functional(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(features, None, None, training=True)


class Broken(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        raise ValueError("something else")


def train_on(count: int, norm: nn.Module, folder: Path) -> None:
    batch = next(iter(make_task().batches(0, 0)))
    some = replace(batch, inputs=batch.inputs[:count], hard_labels=batch.hard_labels[:count])
    task = make_task(batches=lambda epoch, start: [some], steps_per_epoch=1)
    fit_one(Shrinking(norm), task, recipe(epochs=1), folder, name="train_student@x")


@pytest.mark.parametrize(
    ("norm", "count", "layer"),
    [
        (nn.BatchNorm2d(4), 1, "layer 'body.1'"),
        (nn.GroupNorm(4, 4), 1, "layer 'body.1'"),
        (nn.InstanceNorm2d(4), 3, "layer 'body.1'"),
        (nn.Sequential(Functional()), 1, "layer 'body.1.0'"),
    ],
    ids=["batch norm", "group norm", "instance norm", "function"],
)
def test_a_norm_over_a_single_value_is_one_line_that_names_it(
    tmp_path: Path, norm: nn.Module, count: int, layer: str
) -> None:
    told = rf"^train_student@x: model 'Shrinking', {layer} .*: gets a single value .*a batch of {count}, .* 1 x 1.*fit\.batch_size"
    with pytest.raises(ModelError, match=told) as error:
        train_on(count, norm, tmp_path)
    assert len(str(error.value)) <= 500


def test_two_values_are_enough_and_other_errors_are_others(tmp_path: Path) -> None:
    train_on(2, nn.BatchNorm2d(4), tmp_path)
    with pytest.raises(ModelError, match=r"layer 'body.1' .Broken.: fails .ValueError: something else"):
        train_on(2, Broken(), tmp_path / "other")
