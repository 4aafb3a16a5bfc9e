"""Labels as numbers, as a data set has them: that of the class, or an entry for each class."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int8, Int16, Shaped

from pipeline.data.hard_labels import UNLABELLED, is_labelled
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.made import Made
from pipeline.preparation.maps import classes_in, stacked
from pipeline.preparation.sources.label_sets import Label, LabelSet, names_in

BETWEEN = "|"  # names of a set, in lists
UNLABELLED_SET = "NA"  # in lists, where nothing stands for a set that is empty


@dataclass(frozen=True)
class Numbering:
    """The classes in the order of their numbers, and what labels are."""

    class_names: Sequence[str]
    signal: SignalKind = "categorical"

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.class_names)}

    def unknown(self, label: Label) -> str | None:
        """Returns a name in a label that is no class; None if there is none."""
        return next((name for name in names_in(label) if name not in self._numbers), None)

    def of_images(self, made: Sequence[Made]) -> Shaped[np.ndarray, "samples ..."]:
        """Returns the hard labels of images that were made ready."""
        if self.signal == "grid":
            return stacked([one.map for one in made], made[0].shape[1:])
        return self.array([one.label for one in made])

    def entries(self, maps: Int16[np.ndarray, "samples height width"]) -> Int8[np.ndarray, "samples classes"]:
        """Returns 1 for each class that a map has and 0 for others; -1 for one without any."""
        found = classes_in(maps, len(self.class_names)).astype(np.int8)
        found[~found.any(axis=1)] = UNLABELLED
        return found

    def array(self, labels: Sequence[Label]) -> Shaped[np.ndarray, "samples ..."]:
        """Returns labels as hard labels."""
        if self.signal != "categorical":
            entries = np.full((len(labels), len(self.class_names)), UNLABELLED, np.int8)
            for row, label in zip(entries, labels, strict=True):
                if isinstance(label, LabelSet):
                    self._fill(row, label)
            return entries
        numbers: dict[Label, int] = {None: UNLABELLED}
        numbers.update(self._numbers)
        return np.array([numbers[label] for label in labels], dtype=np.int64)

    def _fill(self, row: np.ndarray, label: LabelSet) -> None:
        row[slice(None) if label.no is None else [self._numbers[name] for name in label.no]] = 0
        row[[self._numbers[name] for name in label.yes]] = 1

    def text(self, hard_label: np.ndarray | np.int64) -> str:
        """Returns a hard label as lists have it: its class, or the names of its classes."""
        if isinstance(hard_label, np.ndarray) and hard_label.ndim == 2:  # a map
            hard_label = self.entries(hard_label[None])[0]
        if isinstance(hard_label, np.int64):
            return "" if hard_label == UNLABELLED else self.class_names[int(hard_label)]
        if (hard_label == UNLABELLED).all():
            return UNLABELLED_SET
        return BETWEEN.join(self.class_names[number] for number in np.flatnonzero(hard_label == 1).tolist())

    def texts(self, hard_labels: Shaped[np.ndarray, "samples ..."]) -> Iterable[str]:
        """Returns what `text` does of each."""
        if hard_labels.ndim > 1:
            return map(self.text, hard_labels)
        names = [*self.class_names, ""]  # the last one is that of UNLABELLED, which is -1
        return map(names.__getitem__, hard_labels.tolist())

    def counts(self, hard_labels: Shaped[np.ndarray, "samples ..."]) -> Counter[str | None]:
        """Returns the images of each class; the class None stands for unlabelled ones.

        Args:
            hard_labels: Classes, or entries; those of maps by `entries`.
        """
        labelled = hard_labels[is_labelled(hard_labels)]
        if labelled.ndim == 2:
            each = (labelled == 1).sum(axis=0)
        else:
            each = np.bincount(labelled, minlength=len(self.class_names))
        counts: Counter[str | None] = Counter(dict(zip(self.class_names, each.tolist(), strict=True)))
        counts[None] = len(hard_labels) - len(labelled)
        return +counts
