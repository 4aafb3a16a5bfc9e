"""The one reading of labels, for every source: a name, the number of a name in a list, or none.

1. A label becomes text. Blanks around it are cut, and accents are composed.
2. A name of `classes` is that class.
3. Empty text, -1, and what programs write for a missing value (`nan`, `None`, `NA`) are no label.
4. A whole number may be written as a decimal: 3.0 is 3.
5. A number is a position in `classes`; where names in `classes` are numbers, it is one of these.
6. Without `classes`, every label is its own name.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import NamedTuple
from unicodedata import category

from pipeline.core.errors import SourceError, suggest
from pipeline.core.text import composed
from pipeline.preparation.sources.inputs import check_name, need_file

ClassList = tuple[str, ...] | str | None  # the setting `classes`: names, a file with one name per line, or neither

NO_LABEL = frozenset(
    # pandas reads these as missing, and writes some of them; -1 is Hugging Face's
    ["", "-1", "nan", "NaN", "NAN", "-nan", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaT", "None", "NULL", "null"]
)
WHOLE = re.compile(r"(-?[0-9]{1,18})(\.0*)?")
_DECIMAL = re.compile(r"-?[0-9]*\.[0-9]+(e[-+]?[0-9]+)?|[-+]?inf", re.IGNORECASE)
_MOST_LISTED = 20
_LIST_BYTES = 64 << 20  # of a file of class names
_MOST_KEPT = 100_000  # labels, as they were read
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")  # Unicode's control signs, halves of signs and ends of lines


class Reading(NamedTuple):
    """A class name, or None, and a remark where the label was written in another way."""

    name: str | None
    remark: str = ""


@dataclass(frozen=True)
class Classes:
    """The class names, if they are known beforehand.

    Attributes:
        names: In the order of their numbers; None: the labels that are found are the classes.
        of_numbers: Whether a number is a name, and not a position.
    """

    names: tuple[str, ...] | None = None
    of_numbers: bool = False
    _readings: dict[str | int, Reading] = field(default_factory=dict, compare=False, repr=False)

    def name(self, label: object, where: object) -> str | None:
        """Returns the class name of a label as it was found; None for no label."""
        return self.read(label, where).name

    def read(self, label: object, where: object) -> Reading:
        """Returns what a label as it was found means; raises SourceError where it is no class."""
        if not isinstance(label, str | int) or isinstance(label, bool):
            return self._read(label, where)
        reading = self._readings.get(label)
        if reading is None:
            reading = self._read(label, where)
            if len(self._readings) < _MOST_KEPT:
                self._readings[label] = reading
        return reading

    def _read(self, label: object, where: object) -> Reading:
        raw = text_of(label, where)
        text = composed(raw).strip()
        if text in NO_LABEL and text not in self._known:
            return Reading(None, f"labels {text!r}, which stands for none" if text else "")
        if text in self._known and not is_whole(text):
            reading = Reading(text)
        elif whole := WHOLE.fullmatch(text):
            reading = self._of_number(whole[1], where)
            if whole[2] and not reading.remark:
                reading = Reading(reading.name, "labels that are whole numbers, written as decimals")
        else:
            reading = Reading(self._of_text(text, where))
        odd = isinstance(label, str) and raw != text and not reading.remark
        return Reading(reading.name, "labels with blanks around them, or accents typed apart") if odd else reading

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names or ())

    @cached_property
    def _by_value(self) -> dict[int, str]:
        wholes = {name: WHOLE.fullmatch(name) for name in self.names or ()}
        return {int(whole[1]): name for name, whole in wholes.items() if whole}

    def _of_text(self, text: str, where: object) -> str:
        if _DECIMAL.fullmatch(text):
            fix = "name the class in `classes`, in the source's settings, if it is one"
            raise SourceError(where, f"label {text}, a fraction", expected="a name or a whole number", fix=fix)
        if self.names is not None:
            raise SourceError(where, f"label {text!r}, which is no class", expected=_suggest(text, self.names))
        return text

    def _of_number(self, digits: str, where: object) -> Reading:
        number = int(digits)
        if number == -1 and not (self.of_numbers and digits in self._known):
            return Reading(None, "labels '-1', which stands for none")
        if self.names is None:
            if number < 0:
                raise SourceError(where, f"label {digits}", expected="0 or more, or -1 for none")
            return Reading(digits)
        if self.of_numbers and number in self._by_value:
            is_position = self.names[number : number + 1] == (self._by_value[number],)
            remark = "" if is_position else "labels that are numbers, read as names of `classes` and not as positions"
            return Reading(self._by_value[number], remark)
        if self.of_numbers:
            raise SourceError(where, f"label {digits}, which is no class", expected=_suggest(digits, self.names))
        if not 0 <= number < len(self.names):
            expected = f"0 to {len(self.names) - 1}, or -1 for none"
            raise SourceError(where, f"label {number} is out of range", expected=expected)
        return Reading(self.names[number])


def is_whole(name: str) -> bool:
    """Returns whether a class name is a whole number."""
    return WHOLE.fullmatch(name) is not None and "." not in name


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Returns class names in the one order of all sources: by number where all are whole numbers,
    else by name.
    """
    if all(map(is_whole, names)):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def read_classes(classes: ClassList, least: int = 2) -> Classes:
    """Reads the setting `classes`; raises SourceError when its file can't be read, has a name twice
    or less than `least` names.
    """
    if classes is None:
        return Classes()
    if isinstance(classes, str):
        where, names = classes, _read_lines(Path(classes))
    else:
        where, names = "classes", tuple(composed(name).strip() for name in classes)
    if len(names) < least or not all(names):
        found = f"{len(names)} names" if all(names) else "an empty name"
        raise SourceError(where, found, expected=f"a name per class, at least {'two' if least > 1 else 'one'}")
    check_names(names, where)
    return Classes(names, of_numbers=any(WHOLE.fullmatch(name) or _DECIMAL.fullmatch(name) for name in names))


def files_of(classes: ClassList) -> Iterator[str]:
    """Yields the file that the setting `classes` names, if it names one."""
    if isinstance(classes, str):
        yield classes


def check_names(names: Iterable[str], where: object) -> None:
    """Raises SourceError for names that would break the tables and pages in which they appear, or
    that can't be told apart.
    """
    names = list(names)
    for name in names:
        check_name(name, where)
    if odd := next((name for name in names if any(category(sign) in _NO_TEXT for sign in name)), None):
        raise SourceError(where, f"the class {odd!r}", expected="a name without tabs, line ends and the like")
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise SourceError(where, f"the class {name!r} twice", expected="every name once")
    values: dict[int, str] = {}
    for name in filter(is_whole, names):
        if (other := values.setdefault(int(name), name)) != name:
            fix = "write it in one way, or name the classes in `classes`"
            raise SourceError(where, f"the classes {other!r} and {name!r}, which are one number", fix=fix)


def text_of(label: object, where: object) -> str:
    """Returns a name or a number as text; raises SourceError for anything else."""
    if label is None:
        return ""
    if isinstance(label, bytes):
        return _text(label, where)
    if isinstance(label, float) and label.is_integer():
        return f"{int(label)}.0"  # 1e16 is a whole number, too
    if isinstance(label, str | Real | Decimal):
        return str(label)
    raise SourceError(where, f"label {label!r} ({type(label).__name__})", expected="one name or whole number")


def _read_lines(path: Path) -> tuple[str, ...]:
    need_file(path, _LIST_BYTES)
    try:
        text = _text(path.read_bytes(), path)
    except OSError as error:
        raise SourceError(path, f"can't be read ({error.strerror})", expected="a class name per line") from None
    return tuple(composed(line).strip() for line in text.strip().splitlines())


def _text(content: bytes, where: object) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(where, f"not text ({content[:12]!r})", expected="UTF-8") from None


def _suggest(label: str, names: tuple[str, ...]) -> str:
    if len(names) <= _MOST_LISTED:
        return suggest(label, list(names))
    return f"{suggest(label, get_close_matches(label, names) or list(names[:3]))} and {len(names):,} in all"
