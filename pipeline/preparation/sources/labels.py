"""Class names from labels, which are names or numbers of names in a list; a check that splits fit
together.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from numbers import Integral
from pathlib import Path
from unicodedata import category

from pipeline.core.errors import SourceError, suggest
from pipeline.preparation.sources.inputs import check_name

ClassList = tuple[str, ...] | str | None  # the setting `classes`: names, a file with one name per line, or neither

_MOST_LISTED = 20
_NO_TEXT = ("Cc", "Zl", "Zp")  # Unicode's control signs and ends of lines


@dataclass(frozen=True)
class Classes:
    """The class names, if they are known beforehand.

    With `names`, a label is one of them or the number of one, and the number -1 is no label (as in
    Hugging Face's ClassLabel). Without, every label is its own name, and the labels that are found
    are the classes."""

    names: tuple[str, ...] | None = None

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names or ())

    def name(self, label: object, where: object) -> str | None:
        """Returns the class name of a label as it was found; None for no label (nothing, or empty
        text).
        """
        if label is None:
            return None
        if isinstance(label, bytes):
            label = _text(label, where)
        if isinstance(label, Integral) and not isinstance(label, bool):
            return self._of_number(int(label), where)
        if not isinstance(label, str):
            raise SourceError(where, f"label {label!r} ({type(label).__name__})", expected="a name or a whole number")
        label = label.strip()
        if self.names is None or label in self._known or not label:
            return label or None
        if re.fullmatch(r"-?\d+", label):
            return self._of_number(int(label), where)
        raise SourceError(where, f"label {label!r}, which is no class", expected=_suggest(label, self.names))

    def _of_number(self, number: int, where: object) -> str | None:
        if self.names is None and number >= 0:
            return str(number)
        if self.names is not None and -1 <= number < len(self.names):
            return None if number == -1 else self.names[number]
        if self.names is None:
            expected, fix = "0 or more", "with `classes` in the source's settings, -1 is no label"
        else:
            expected, fix = f"0 to {len(self.names) - 1}, or -1 for none", ""
        raise SourceError(where, f"label {number} is out of range", expected=expected, fix=fix)

    def in_order(self, found: Mapping[str, Collection[str | None]], where: object) -> tuple[str, ...]:
        """Returns all class names by number: those of the list, or those found, sorted (numbers by
        their value).

        Raises SourceError when the labels of the splits do not fit together (`check_labels`).
        """
        check_labels(found, where)
        if self.names is not None:
            return self.names
        names = {label for labels in found.values() for label in labels if label is not None}
        if all(name.isdecimal() for name in names):
            return tuple(sorted(names, key=lambda name: (int(name), name)))
        return tuple(sorted(names))


def read_classes(classes: ClassList) -> Classes:
    """Reads the setting `classes`; raises SourceError when its file can't be read or has a name
    twice.
    """
    if classes is None:
        return Classes()
    if isinstance(classes, str):
        where, names = classes, _read_lines(Path(classes))
    else:
        where, names = "classes", classes
    if len(names) < 2 or not all(names):
        found = f"{len(names)} names" if all(names) else "an empty name"
        raise SourceError(where, found, expected="a name per class, at least two")
    _check_printable(names, where)
    if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise SourceError(where, f"the class {twice!r} twice", expected="every name once")
    return Classes(names)


def files_of(classes: ClassList) -> Iterator[str]:
    """Yields the file that the setting `classes` names, if it names one."""
    if isinstance(classes, str):
        yield classes


def _check_printable(names: Collection[str], where: object) -> None:
    """Raises SourceError for a name that would break the tables, pages and figures in which it
    appears.
    """
    for name in names:
        check_name(name, where)
    if odd := next((name for name in names if any(category(sign) in _NO_TEXT for sign in name)), None):
        raise SourceError(where, f"the class {odd!r}", expected="a name without tabs, line ends and the like")


def check_labels(found: Mapping[str, Collection[str | None]], where: object) -> None:
    """Raises SourceError unless there are two classes to train on, and val and test have only
    these, all labelled.
    """
    trained = set(found.get("train", ())) - {None}
    _check_printable([label for labels in found.values() for label in labels if label is not None], where)
    if not found.get("train"):
        raise SourceError(where, "no training images", expected="a split `train`")
    if len(trained) < 2:
        only = f"only one class, {next(iter(trained))!r}" if trained else "no labelled training image"
        raise SourceError(where, only, expected="images of at least two classes")
    for split in ("val", "test"):
        labels = found.get(split, ())
        if None in labels:
            fix = "label them, or take them out (prepare can split them off the training images)"
            raise SourceError(where, f"unlabelled images in the split {split!r}", expected="labels", fix=fix)
        if foreign := sorted(label for label in labels if label is not None and label not in trained):
            fix = f"add training images of it, or take it out of {split!r}"
            raise SourceError(where, f"class {foreign[0]!r} is in {split!r} but not in 'train'", fix=fix)


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        text = _text(path.read_bytes(), path)
    except OSError as error:
        raise SourceError(path, f"can't be read ({error.strerror})", expected="a class name per line") from None
    return tuple(line.strip() for line in text.strip().splitlines())


def _text(content: bytes, where: object) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(where, f"not text ({content[:12]!r})", expected="UTF-8") from None


def _suggest(label: str, names: tuple[str, ...]) -> str:
    if len(names) <= _MOST_LISTED:
        return suggest(label, list(names))
    return f"{suggest(label, get_close_matches(label, names) or list(names[:3]))} and {len(names):,} in all"
