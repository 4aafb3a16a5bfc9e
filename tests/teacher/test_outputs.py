"""A teacher whose outputs are in another order than the classes is refused, with the class_map that
fits.
"""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pipeline.core.errors import ModelError
from pipeline.models import match_classes
from pipeline.models.classifier import group_table, join_outputs
from pipeline.signals.binary import Binary
from pipeline.teacher.outputs import ImportedOutputs

BY_NUMBER = [str(number) for number in range(12)]
BY_NAME = [BY_NUMBER.index(name) for name in sorted(BY_NUMBER)]  # 0, 1, 10, 11, 2, ...


def draw(
    names: Sequence[str], order: Sequence[int], accuracy: float, each: int = 20
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the outputs of a teacher that is so often right, output k for class order[k], and
    the labels.
    """
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(names)), each)
    wrong = random.random(len(labels)) >= accuracy
    seen = np.where(wrong, random.integers(0, len(names), len(labels)), labels)
    logits = np.eye(len(names))[np.argsort(order)[seen]] * 5
    mixed = random.permutation(len(labels))
    return torch.from_numpy(logits[mixed]).float(), torch.from_numpy(labels[mixed])


def swapped(count: int, *places: int) -> list[int]:
    order = list(range(count))
    for a, b in zip(places[::2], places[1::2], strict=True):
        order[a], order[b] = order[b], order[a]
    return order


@pytest.mark.parametrize(
    ("names", "order", "accuracy"),
    [
        (BY_NUMBER, BY_NAME, 1.0),
        (BY_NUMBER, BY_NAME, 0.6),
        (BY_NUMBER, BY_NUMBER[::-1], 0.9),
        (["cat", "dog"], [1, 0], 0.9),
        (BY_NUMBER, swapped(12, 3, 4), 0.99),
        ([f"class {number}" for number in range(100)], swapped(100, *range(60)), 0.9),
    ],
)
def test_another_order_is_refused_with_the_class_map_that_fits(
    names: list[str], order: list[int], accuracy: float, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, labels = draw(names, [int(number) for number in order], accuracy)
    with pytest.raises(ModelError, match=r"accuracy .*% on .* labelled images, but .*% with its outputs") as refused:
        ImportedOutputs("x", names, None).check(outputs, labels)
    message = str(refused.value)
    assert len(message) <= 300
    text = capsys.readouterr().err if "printed above" in message else message
    assert all(len(line) <= 300 for line in text.splitlines())
    class_map = json.loads(text.split("class_map: ")[1])
    groups = match_classes(names, None, class_map, len(names), "here")
    assert groups is not None
    joined = join_outputs(outputs, group_table(groups))
    assert (joined.argmax(dim=1) == labels).float().mean() > accuracy - 0.1
    ImportedOutputs("x", names, groups).check(joined, labels)


def test_a_map_that_is_there_already_is_corrected() -> None:
    names = ["cat", "dog", "fish"]
    outputs, labels = draw(names, [1, 0, 2], 1.0)
    with pytest.raises(ModelError) as refused:
        ImportedOutputs("x", names, [[7, 8], [3], [5]]).check(outputs, labels)
    assert json.loads(str(refused.value).split("class_map: ")[1]) == {"cat": [3], "dog": [7, 8], "fish": [5]}


@pytest.mark.parametrize(
    ("names", "accuracy", "each"),
    [
        (BY_NUMBER, 1.0, 20),
        (BY_NUMBER, 0.5, 20),
        (BY_NUMBER, 0.25, 20),
        (BY_NUMBER, 1.0, 1),
        (["cat", "dog"], 0.7, 20),
        ([f"class {number}" for number in range(200)], 0.1, 5),
    ],
)
def test_a_teacher_in_the_right_order_is_taken_however_weak(names: list[str], accuracy: float, each: int) -> None:
    outputs, labels = draw(names, range(len(names)), accuracy, each)
    ImportedOutputs("x", names, None).check(outputs, labels)


def test_two_classes_that_a_teacher_confuses_are_no_other_order() -> None:
    outputs, labels = draw(BY_NUMBER, range(12), 1.0)
    confused = (labels == 3) & (torch.arange(len(labels)) % 10 < 7)
    outputs[confused] = torch.eye(12)[4]
    ImportedOutputs("x", BY_NUMBER, None).check(outputs, labels)


def test_guesses_are_still_refused_as_chance() -> None:
    with pytest.raises(ModelError, match="no better than chance"):
        ImportedOutputs("x", BY_NUMBER, None).check(*draw(BY_NUMBER, range(12), 0.0))


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=["in order", "in another order"])
def test_independent_outputs_must_be_better_than_chance(order: list[int]) -> None:
    """In another order they are worse: each class is then told by one that excludes it."""
    own = torch.eye(3, dtype=torch.int8).repeat(40, 1)
    outputs = (4.0 * own - 2)[:, order]
    imported = ImportedOutputs("x", ["a", "b", "c"], None, Binary())
    if order == [0, 1, 2]:
        imported.check(outputs, own)
    else:
        with pytest.raises(ModelError, match=r"^x: mean average precision \d+\.\d\d% on 120 .* no better than chance"):
            imported.check(outputs, own)
