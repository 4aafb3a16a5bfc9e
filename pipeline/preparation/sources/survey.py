"""The labels of all images, read once: counted by split and class, and checked as a whole."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from pipeline.core.errors import SourceError, listed
from pipeline.core.text import compared
from pipeline.preparation.sources.labels import Classes, check_names, in_order
from pipeline.preparation.sources.notes import Notes


@dataclass
class Survey:
    """A count of labels.

    Attributes:
        notes: Takes remarks about labels that were written in another way than their class.
        counts: Images by split and class; the class None stands for unlabelled ones.
        no_labels: Whether some labels were read as none by what stands there.
    """

    notes: Notes
    counts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    no_labels: bool = False

    def add(self, split: str, label: object, classes: Classes, where: str, count: int = 1) -> None:
        """Counts a label as it was found; `where` is an example of its images."""
        name, remark = classes.read(label, where)
        self.counts[split, name] += count
        if remark:
            self.notes.add(remark, where, count)
            self.no_labels |= name is None

    def class_names(self, names: tuple[str, ...] | None, where: object) -> tuple[str, ...]:
        """Returns the classes by number: those that are given, or those found, in order.

        Raises SourceError when labels do not fit together.
        """
        found = {label for _, label in self.counts if label is not None}
        check_names(sorted(found), where)
        self._check_train(where)
        for split in ("val", "test"):
            self._check_measured(split, where)
        _note_alike(found, self.notes)
        return in_order(found) if names is None else names

    def _labels(self, split: str) -> set[str | None]:
        return {label for one, label in self.counts if one == split}

    def _check_train(self, where: object) -> None:
        labels = self._labels("train")
        if not labels:
            raise SourceError(where, "no training images", expected="a split `train`")
        if len(trained := labels - {None}) < 2:
            only = f"only one class, {next(iter(trained))!r}" if trained else "no labelled training image"
            fix = "labels such as -1, nan and None stand for none: if one is a class, name all in `classes`"
            fix = fix if self.no_labels else ""
            raise SourceError(where, only, expected="images of at least two classes", fix=fix)

    def _check_measured(self, split: str, where: object) -> None:
        labels = self._labels(split)
        if None in labels:
            found = f"{self.counts[split, None]:,} unlabelled images in the split {split!r}"
            fix = "label them, take them to train, or out (prepare can split some off the training images)"
            raise SourceError(where, found, expected="labels", fix=fix)
        if foreign := sorted(label for label in labels - self._labels("train") if label is not None):
            what = f"class {foreign[0]!r} is" if len(foreign) == 1 else f"classes {listed(foreign)} are"
            fix = f"add training images, or take them out of {split!r}"
            raise SourceError(where, f"{what} in {split!r} but not in 'train'", fix=fix)


def _note_alike(names: Collection[str], notes: Notes) -> None:
    """Notes classes whose names differ in capitals and the like alone."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        if (other := seen.setdefault(compared(name), name)) != name:
            notes.add("classes whose names differ in capitals, blanks or `_` alone", f"{other} and {name}")
