"""FKD's soft labels: for each image a file of torch.save with the labels of many crops.

`<name>.tar` is no archive: it is torch.save of `[coordinates, flips, labels]`, NumPy arrays of one
row a crop. Coordinates are top, left, height and width as shares of the image. Labels have one of
these forms, which the file does not name:

    hard                          [crops]: the most likely class
    smoothing                     [crops, 2]: that class, and its probability
    marginal_smoothing, _renorm   [crops, 2, k]: the k most likely classes, and their probabilities
    full                          [crops, classes]: every probability

A crop could be shown to a student here only if a store held its coordinates: no view does, as
views follow from a seed and a number. So the mean over the crops is taken, as for other layouts.

References:
    Zhiqiang Shen and Eric Xing, "A Fast Knowledge Distillation Framework for Visual Recognition",
    2021, arXiv:2112.01528, section 3; github.com/szq0214/FKD, FKD_SLG/generate_soft_label.py and
    utils_FKD.py.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.core.errors import DataError
from pipeline.labelling.foreign.base import ForeignLabels, ViewLabels, need_some
from pipeline.labelling.foreign.torch_arrays import read_torch_arrays

_EXPECTED = "a folder with a .tar file (of torch.save) for each image"
_PARTS = 3  # coordinates, flips, labels


class FKD(ForeignLabels):
    """The folder of FKD's label files, one for each image, in folders by class."""

    views = "crops by FKD's coordinates and flips"

    def find(self) -> list[Path]:
        return need_some(sorted(self.path.rglob("*.tar")), self.path, _EXPECTED)

    def read(self, file: Path) -> Iterator[ViewLabels]:
        parts = read_torch_arrays(file)
        if len(parts) != _PARTS:
            raise DataError(file, f"a list of {len(parts)}", expected="coordinates, flips and labels")
        coordinates, flips, labels = parts
        if not (labels.ndim and coordinates.shape == (len(labels), 4) and flips.shape == (len(labels),)):
            shapes = ", ".join(str(list(part.shape)) for part in parts)
            raise DataError(file, f"arrays of shapes {shapes}", expected="[crops, 4], [crops], and labels of each crop")
        outputs, shares = self._kept(labels, file)
        name = file.relative_to(self.path).with_suffix("").as_posix()
        yield ViewLabels([name] * len(labels), outputs.astype(np.int64), shares.astype(np.float32))

    def _kept(self, labels: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Returns the outputs that labels keep and their probabilities, from any of the forms."""
        if labels.ndim == 1:
            return _whole(labels[:, None], file), np.ones((len(labels), 1))
        if labels.ndim == 3 and labels.shape[1] == 2:
            return _whole(labels[:, 0], file), labels[:, 1]
        if labels.ndim == 2 and labels.shape[1] == 2 != self.num_outputs:
            return _whole(labels[:, :1], file), labels[:, 1:]
        if labels.ndim == 2 and labels.shape[1] == self.num_outputs > 2:
            return np.broadcast_to(np.arange(self.num_outputs), labels.shape), labels
        found = f"labels of shape {list(labels.shape)}, and {self.num_outputs} outputs of the teacher"
        raise DataError(file, found, expected="[crops], [crops, 2], [crops, 2, k] or [crops, outputs]")


def _whole(numbers: np.ndarray, file: Path) -> np.ndarray:
    """Returns numbers of classes, which FKD stores as floats beside probabilities."""
    if not (np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()):
        raise DataError(file, "classes that are no whole numbers", expected="the number of an output")
    return numbers
