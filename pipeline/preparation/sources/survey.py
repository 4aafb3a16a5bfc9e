"""The labels of all images, read once: counted by split and class, and checked as a whole."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from pipeline.core.errors import SourceError, listed
from pipeline.core.text import compared
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.label_sets import LabelReader, classes_of, names_in
from pipeline.preparation.sources.labels import check_names, in_order
from pipeline.preparation.sources.notes import Notes

_JOINING = "|;,"  # between the names of several classes, as people write them
_AROUND = " []'\""  # of a list that is written out


@dataclass
class Survey:
    """A count of labels.

    Attributes:
        notes: Takes remarks about labels that were written in another way than their class.
        signal: The meaning of labels.
        counts: Images by split and class; the class None stands for unlabelled ones.
        split_sizes: Images by split.
        named: All classes that labels name, also where an image is not of them.
        no_labels: Whether some labels were read as none by what stands there.
        is_several: Whether an image is of several classes.
    """

    notes: Notes
    signal: SignalKind = "categorical"
    counts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    split_sizes: Counter[str] = field(default_factory=Counter)
    named: set[str] = field(default_factory=set)
    no_labels: bool = False
    is_several: bool = False

    def add(self, split: str, label: object, reader: LabelReader, where: str, count: int = 1) -> None:
        """Counts a label as it was found; `where` is an example of its images."""
        found, remark = reader.read(label, where)
        self.split_sizes[split] += count
        for number, name in enumerate(classes_of(found)):
            self.counts[split, name] += count
            self.is_several |= number > 0
        self.named.update(names_in(found))
        if remark:
            self.notes.add(remark, where, count)
            self.no_labels |= found is None

    def class_names(self, names: tuple[str, ...] | None, where: object) -> tuple[str, ...]:
        """Returns the classes by number: those that are given, or those found, in order.

        Raises SourceError when labels do not fit together.
        """
        check_names(sorted(self.named), where)
        self._check_train(where)
        for split in ("val", "test"):
            self._check_measured(split, where)
        _note_alike(self.named, self.notes)
        ordered = in_order(self.named) if names is None else names
        if self.signal == "categorical":
            _note_joined(self.named, self.notes)
        elif self.signal == "binary" and not self.is_several and len(ordered) > 1:
            self._note_single()
        return ordered

    def _labels(self, split: str) -> set[str | None]:
        return {label for one, label in self.counts if one == split}

    def _check_train(self, where: object) -> None:
        if not self.split_sizes["train"]:
            raise SourceError(where, "no training images", expected="a split `train`")
        if self.signal != "categorical":
            self._check_trained_several(where)
        elif len(trained := self._labels("train") - {None}) < 2:
            only = f"only one class, {next(iter(trained))!r}" if trained else "no labelled training image"
            fix = "labels such as -1, nan and None stand for none: if one is a class, name all in `classes`"
            fix = fix if self.no_labels else ""
            raise SourceError(where, only, expected="at least two classes", fix=fix)

    def _check_trained_several(self, where: object) -> None:
        if self.counts["train", None] == self.split_sizes["train"]:
            expected = "a mask for some of them" if self.signal == "grid" else "a set of classes for some of them"
            raise SourceError(where, "no labelled training image", expected=expected)
        if self.signal == "binary" and not self._labels("train") - {None}:
            raise SourceError(where, "no training image is of any class", expected="at least one class")

    def _check_measured(self, split: str, where: object) -> None:
        labels = self._labels(split)
        if None in labels:
            found = f"{self.counts[split, None]:,} unlabelled images in the split {split!r}"
            fix = "label them, take them to train, or out (prepare can split some off the training images)"
            raise SourceError(where, found, expected="labels", fix=fix)
        foreign = sorted(label for label in labels - self._labels("train") if label is not None)
        if foreign and self.signal == "binary":
            count = sum(self.counts[split, name] for name in foreign)
            self.notes.add(f"labels in {split!r} of classes that no training image is of", listed(foreign, 60), count)
        elif foreign:
            what = f"class {foreign[0]!r} is" if len(foreign) == 1 else f"classes {listed(foreign)} are"
            fix = f"add training images, or take them out of {split!r}"
            raise SourceError(where, f"{what} in {split!r} but not in 'train'", fix=fix)

    def _note_single(self) -> None:
        """Notes sets of one class at most: perhaps classes exclude each other, or names were not
        taken apart.
        """
        advice = "if classes exclude each other, say so by one label an image; if not, check `separator`"
        name = next((name for _, name in self.counts if name is not None), "none")
        self.notes.add(f"images, of which none has more than one class ({advice})", name, self.split_sizes.total())


def _note_joined(names: Collection[str], notes: Notes) -> None:
    """Notes classes whose names are made of others: perhaps each is a set of classes."""
    for sign in _JOINING:
        parts = {name: [part.strip(_AROUND) for part in name.split(sign)] for name in names}
        times = Counter(part for each in parts.values() for part in each)
        joined = [name for name, each in parts.items() if len(each) > 1 and all(times[part] > 1 for part in each)]
        if joined:
            remark = (
                f"class names made of others, with {sign!r} between (set `separator` if an image has several classes)"
            )
            notes.add(remark, min(joined), len(joined))


def _note_alike(names: Collection[str], notes: Notes) -> None:
    """Notes classes whose names differ in capitals and the like alone."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        if (other := seen.setdefault(compared(name), name)) != name:
            notes.add("classes whose names differ in capitals, blanks or `_` alone", f"{other} and {name}")
