"""The one reading of labels that are sets: an image is of any number of independent classes.

1. A list of names, or a text with a separator between names, has every class of an image. It is of
   no other class; an empty list or cell is of none at all.
2. A map, or several columns, have an entry for each class: 1 (true, yes), 0 (false, no), or
   unknown (empty, -1, NA). A class without an entry is unknown.
3. No label (null), and a cell that is -1, NA and the like, is an unlabelled image, and so is one
   without a known entry.
4. Names are read as all labels are: labels.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pipeline.core.errors import SourceError
from pipeline.core.text import composed
from pipeline.preparation.sources.labels import NO_LABEL, WHOLE, Classes, text_of
from pipeline.preparation.sources.mask import Mask, MaskReader

_ENTRIES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_MOST_KEPT = 4096  # values of entries, of which there are few


@dataclass(frozen=True)
class LabelSet:
    """The independent classes of an image, as far as they are known.

    Attributes:
        yes: The classes that it is of.
        no: Those that it is not of; None: all others. Classes in neither are unknown.
    """

    yes: frozenset[str]
    no: frozenset[str] | None = None


Label = str | LabelSet | Mask | None  # of an image: its class, its classes, those of its pixels, or nothing


def classes_of(label: Label) -> Iterable[str | None]:
    """Returns the classes under which an image is counted; None stands for an unlabelled one.

    The pixels of masks are counted, not images.
    """
    if isinstance(label, Mask):
        return ()
    return label.yes if isinstance(label, LabelSet) else (label,)


def names_in(label: Label) -> Iterable[str]:
    """Returns the classes that a label names, also those that the image is not of."""
    if isinstance(label, LabelSet):
        return label.yes | (label.no or frozenset())
    return (label,) if isinstance(label, str) else ()


class SetReading(NamedTuple):
    """A set, or None, and a remark where it may be meant otherwise."""

    name: LabelSet | None
    remark: str = ""


@dataclass(frozen=True)
class LabelSets:
    """The reading of sets; it takes the place of `Classes`, by which it reads names.

    Attributes:
        separator: What stands between names in a text; None: lists and maps alone are read.
    """

    classes: Classes
    separator: str | None = None

    def name(self, label: object, where: object) -> LabelSet | None:
        """Returns the set of a label as it was found; None for no label."""
        return self.read(label, where).name

    def read(self, label: object, where: object) -> SetReading:
        """Returns what a label as it was found means; raises SourceError where it is no set."""
        if isinstance(label, Mapping):
            return self._of_entries(label, where)
        if isinstance(label, list | tuple):
            if self.separator is not None:
                fix = "leave `separator` out of the source's settings"
                raise SourceError(where, "a list of names", expected=f"a text with {self.separator!r}", fix=fix)
            return self._of_names(label, where)
        return SetReading(None) if label is None else self._of_text(text_of(label, where), where)

    def _of_text(self, raw: str, where: object) -> SetReading:
        text = composed(raw).strip()
        if text in NO_LABEL and text and text not in (self.classes.names or ()):
            return SetReading(None, f"labels {text!r}, which stands for unlabelled")
        if self.separator is None:
            raise SourceError(where, f"label {text!r}", expected="a list of names", fix="or set `separator`")
        if text[:1] == "[" and text[-1:] == "]" and text not in (self.classes.names or ()):
            expected = f"names alone, with {self.separator!r} between them"
            raise SourceError(where, f"a list that is written out, {text!r}", expected=expected)
        return self._of_names([part for part in text.split(self.separator) if part.strip()], where)

    def _of_names(self, labels: Iterable[object], where: object) -> SetReading:
        names = [self._known(label, where) for label in labels]
        if not names:
            return SetReading(LabelSet(frozenset()), "labels that are empty, read as none of the classes")
        yes = frozenset(names)
        return SetReading(LabelSet(yes), "labels that name a class twice" if len(yes) < len(names) else "")

    def _of_entries(self, label: Mapping[object, object], where: object) -> SetReading:
        entries = {self._known(name, where): _entry_of(name, value, where) for name, value in label.items()}
        if len(entries) < len(label):
            raise SourceError(where, "two entries for one class", expected="one for each")
        yes = frozenset(name for name, entry in entries.items() if entry)
        no = frozenset(name for name, entry in entries.items() if entry is False)
        if not yes and not no:
            return SetReading(None, "labels without a known entry, read as unlabelled")
        unknown = len(yes) + len(no) < len(entries)
        return SetReading(LabelSet(yes, no), "labels of which some entries are unknown" if unknown else "")

    def _known(self, label: object, where: object) -> str:
        name = self.classes.name(label, where)
        if name is None:
            fix = "leave it out; an image of which nothing is known has no list"
            raise SourceError(where, f"{label!r} among the names of its classes", expected="names", fix=fix)
        return name


LabelReader = Classes | LabelSets | MaskReader


def _entry_of(name: object, value: object, where: object) -> bool | None:
    try:
        return _read_entry(value)
    except (ValueError, TypeError, SourceError):
        expected = "1 (yes), 0 (no), or -1 or nothing (unknown)"
        raise SourceError(where, f"entry {value!r} of class {name!r}", expected=expected) from None


@lru_cache(maxsize=_MOST_KEPT)
def _read_entry(value: object) -> bool | None:
    """Returns an entry: yes, no or unknown (None); raises ValueError where it is none of these."""
    text = composed(text_of(value, "")).strip()
    whole = WHOLE.fullmatch(text)
    key = str(int(whole[1])) if whole else text
    if key in NO_LABEL:
        return None
    if key.casefold() not in _ENTRIES:
        raise ValueError(text)
    return _ENTRIES[key.casefold()]
