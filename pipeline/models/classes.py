"""The outputs of a teacher that stand for each class of the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core.errors import ConfigError, suggest
from pipeline.core.plain_files import text_lines
from pipeline.core.text import compared

ClassMap = Mapping[str, Sequence[int | str]]


def read_class_names(names: str | Sequence[str] | None, where: str) -> list[str] | None:
    """Returns class names as they are given, or from a file with one in a line.

    Raises ConfigError where that can't be read.
    """
    if names is None or not isinstance(names, str):
        return names if names is None else list(names)
    try:
        lines = list(text_lines(Path(names)))
    except (OSError, ValueError) as error:
        not_text = isinstance(error, UnicodeDecodeError)
        reason = "not text" if not_text else getattr(error, "strerror", None) or str(error)
        raise ConfigError(where, f"{names}: {reason}", expected="a file with one class name in a line") from None
    return [line.strip() for line in lines if line.strip()]


def match_classes(
    class_names: Sequence[str],
    output_names: Sequence[str] | None,
    class_map: ClassMap | None,
    num_outputs: int,
    where: str,
) -> list[list[int]] | None:
    """Returns for each class of the data the outputs that stand for it.

    None means that the outputs are these classes in their order.

    Args:
        output_names: What the outputs are called; None: nobody knows, and they are taken for the
            data's classes.
        class_map: The outputs of some classes, by name or number; others go by their name, whatever
            its case.

    Raises:
        ConfigError: A class has no output, two have the same, or names and outputs are not of one
        number.
    """
    if output_names is not None and len(output_names) != num_outputs:
        found = f"{len(output_names)} names for {num_outputs} outputs"
        raise ConfigError(f"{where}.teacher_classes", found, expected="a name for each output, in their order")
    if unknown := [name for name in class_map or {} if name not in class_names]:
        raise ConfigError(
            f"{where}.class_map.{unknown[0]}", "no such class", expected=suggest(unknown[0], list(class_names))
        )
    if output_names is None and class_map is None:
        if num_outputs != len(class_names):
            found = f"{num_outputs} outputs, and {len(class_names)} classes in the data"
            fix = "name the outputs in teacher_classes, or map them in class_map"
            raise ConfigError(where, found, expected="one output for each class", fix=fix)
        return None
    groups = [_outputs_of(name, output_names, class_map or {}, num_outputs, where) for name in class_names]
    _need_distinct(class_names, groups, where)
    return None if groups == [[number] for number in range(num_outputs)] else groups


def _outputs_of(
    name: str, output_names: Sequence[str] | None, class_map: ClassMap, num_outputs: int, where: str
) -> list[int]:
    """Returns the outputs of one class."""
    if name in class_map:
        place = f"{where}.class_map.{name}"
        if not class_map[name]:
            raise ConfigError(place, "no output", expected="one or more of the teacher's classes")
        return [_number_of(entry, output_names, num_outputs, place) for entry in class_map[name]]
    if output_names is None:
        raise ConfigError(
            f"{where}.class_map", f"lacks class {name!r}", expected="every class: the outputs have no names"
        )
    fix = "map it in class_map, or take the teacher's body alone (new_head: true)"
    return [_find(name, output_names, f"class {name!r} of the data", fix)]


def _number_of(entry: int | str, output_names: Sequence[str] | None, num_outputs: int, place: str) -> int:
    if isinstance(entry, int):
        if not 0 <= entry < num_outputs:
            raise ConfigError(place, f"output {entry}", expected=f"0 to {num_outputs - 1}")
        return entry
    if output_names is None:
        raise ConfigError(place, f"{entry!r}, but the outputs have no names", expected="numbers, or teacher_classes")
    return _find(entry, output_names, place, "")


def _find(name: str, output_names: Sequence[str], place: str, fix: str) -> int:
    numbers = [number for number, other in enumerate(output_names) if compared(other) == compared(name)]
    if not numbers:
        expected = suggest(name, list(output_names))
        raise ConfigError(place, f"the teacher has no class {name!r}", expected=expected, fix=fix)
    if len(numbers) > 1:
        found = f"the teacher has {len(numbers)} classes {name!r}: outputs {', '.join(map(str, numbers))}"
        raise ConfigError(place, found, fix="map it by number in class_map")
    return numbers[0]


def _need_distinct(class_names: Sequence[str], groups: Sequence[Sequence[int]], where: str) -> None:
    owner: dict[int, str] = {}
    for name, group in zip(class_names, groups, strict=True):
        for number in group:
            if number in owner:
                found = f"output {number} stands for {owner[number]!r} and for {name!r}"
                raise ConfigError(f"{where}.class_map", found, expected="each output once")
            owner[number] = name
