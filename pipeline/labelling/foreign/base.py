"""The interface of another system's label files: labels of views, each with its sample's name."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from pipeline.core.errors import DataError

AT_ONCE = 65_536  # labels of one batch


@dataclass(frozen=True)
class ViewLabels:
    """The labels of some views, in any order.

    Attributes:
        names: The name of each label's sample, as the other system has it.
        outputs: The teacher's outputs that each label keeps, the most likely ones of all.
        probabilities: Those of the kept outputs.
    """

    names: Sequence[str]
    outputs: Int64[np.ndarray, "labels kept"]
    probabilities: Float32[np.ndarray, "labels kept"]


@dataclass(frozen=True)
class Described:
    """The label files that a command names, and its options about them.

    Attributes:
        ids: What `--ids` names, for a layout that lacks the names of samples.
        probabilities: Whether `--probabilities` was given, which no layout needs.
        num_outputs: The outputs of the teacher, where the files leave that open.
    """

    path: Path
    ids: str | None
    probabilities: bool
    num_outputs: int


class ForeignLabels(ABC):
    """The label files of another system, and what their labels are labels of.

    Attributes:
        views: What the views were, for the line about what the labels are good for.
        tolerance: How far a label's probabilities may be from a distribution's, by rounding.
        takes_ids: Whether the layout has a use for `--ids`.
    """

    views: ClassVar[str]
    tolerance: ClassVar[float] = 2e-3
    takes_ids: ClassVar[bool] = False

    def __init__(self, described: Described) -> None:
        self.path, self.ids, self.num_outputs = described.path, described.ids, described.num_outputs
        self.files = self.find()

    @abstractmethod
    def find(self) -> list[Path]:
        """Returns the files that hold labels, in a fixed order; raises DataError where there are
        none.
        """

    @abstractmethod
    def read(self, file: Path) -> Iterator[ViewLabels]:
        """Yields the labels in a file, some at a time.

        Raises DataError where it is damaged, or not of this layout.
        """


def need_some(files: Sequence[Path], path: Path, expected: str) -> list[Path]:
    """Returns the files; raises DataError where there are none."""
    if not files:
        raise DataError(path, "no such files" if path.exists() else "no such folder", expected=expected)
    return list(files)


def need_whole(labels: ViewLabels, num_outputs: int, tolerance: float, where: object) -> None:
    """Raises DataError where labels can't be the most likely outputs of a teacher with so many.

    No output that is left out may be more likely than one that is kept. So their mean is not,
    either: bytes that were read in a wrong way hardly ever pass.
    """
    outputs, shares = labels.outputs, labels.probabilities
    if not outputs.size:
        return
    if not ((outputs >= 0) & (outputs < num_outputs)).all():
        found = f"outputs {outputs.min()} to {outputs.max()}"
        fix = "name the teacher's outputs in teacher_classes"
        raise DataError(where, found, expected=f"0 to {num_outputs - 1}, of {num_outputs:,} outputs", fix=fix)
    if (np.diff(np.sort(outputs, axis=1), axis=1) == 0).any():
        raise DataError(where, "a label names an output twice", expected="each once")
    if not (np.isfinite(shares).all() and shares.min() >= 0):
        raise DataError(where, "a probability below 0, or none at all", expected="0 to 1")
    sums = shares.sum(axis=1, dtype=np.float64)
    if sums.max() > 1 + tolerance:
        found = f"probabilities that sum up to {sums.max():.4g}"
        raise DataError(where, found, expected="one class a sample: a softmax's, at most 1 in all")
    left_out = (1 - sums) / max(num_outputs - outputs.shape[1], 1)
    if (left_out > shares.min(axis=1) + tolerance).any():
        raise DataError(where, "outputs that are left out are likelier than kept ones", expected="the most likely ones")
