"""Sections of `params.yaml` as frozen dataclasses; unknown, missing or ill-typed keys fail, by
name.

The dataclasses live beside the code that they steer. They are pydantic dataclasses made with
`STRICT`, so that `"3"` is not an integer and a misspelt key is not silently ignored. YAML is read
as version 1.2, as DVC reads it (`1e-3` is a number).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.core.bounds import check_numbers
from pipeline.core.errors import ConfigError, suggest
from pipeline.core.names import check_names

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
PARAMS = Path("params.yaml")

_NEVER_WRAPPED = 4096
_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden"}

Settings = TypeVar("Settings")


def load_section(kind: type[Settings], section: str, path: Path = PARAMS) -> Settings:
    """Returns the section of `path` at a dotted name (`students.small`) as a `kind`.

    Raises ConfigError where it does not fit.
    """
    settings: Settings = validate(kind, _find(section, path), f"{path}: {section}")
    return settings


def load_rows(section: str, path: Path = PARAMS) -> dict[str, Any]:
    """Returns the rows of a table (`students`, `encodings`) by name, as they stand in the file.

    Raises ConfigError where there are none, or one has no proper name or is no map.
    """
    rows, where = _find(section, path), f"{path}: {section}"
    if not isinstance(rows, dict) or not rows:
        raise ConfigError(where, repr(rows), expected="a table with at least one row")
    check_names(rows, where)
    for name, row in rows.items():
        if not isinstance(row, dict):
            raise ConfigError(f"{where}.{name}", f"{row!r}", expected="a row: a map of settings")
    return rows


def load_row(kind: type[Settings], table: str, name: str, path: Path = PARAMS) -> Settings:
    """Returns a row of a table as a `kind`, over the section `<table>_defaults`, map by map.

    Raises ConfigError where it does not fit.
    """
    content, defaults = _read_yaml(path), f"{table}_defaults"
    shared = load_section(dict, defaults, path) if isinstance(content, dict) and defaults in content else {}
    row = _over(_find(f"{table}.{name}", path), shared)
    settings: Settings = validate(kind, row, f"{path}: {table}.{name}")
    return settings


def load_table(kind: type[Settings], table: str, path: Path = PARAMS) -> dict[str, Settings]:
    """Returns every row of a table, as `load_row` has it, in the order of the file.

    Raises ConfigError where one does not fit.
    """
    return {name: load_row(kind, table, name, path) for name in load_rows(table, path)}


def load_params(path: Path = PARAMS) -> dict[str, Any]:
    """Returns all of `path`, as it stands there; raises ConfigError where it is no table."""
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(path, f"holds {content!r:.40}", expected="sections: the names of stages, and tables")
    return content


def section_names(path: Path = PARAMS) -> list[str]:
    """Returns the names at the top of `path`; raises ConfigError where it is no table of
    sections.
    """
    return [str(name) for name in load_params(path)]


@dataclass(frozen=True)
class Setting:
    """A change of a file of settings: an entry by its dotted name, its value, and why it is so.

    The reason becomes the comment of its line, in place of one that is there. With `removed` the
    entry is deleted.
    """

    entry: str
    value: Any
    why: str
    removed: bool = False


def edit_entry(path: Path, entry: str, change: Callable[[Any], Any]) -> None:
    """Replaces the entry at a dotted name by what `change` makes of it.

    The rest of the file stays as it is, with its comments. A map is written in one line.

    Raises ConfigError where there is no such entry.
    """
    with _editing(path) as content:
        node, last = _place(content, entry, path)
        if last not in node:
            raise ConfigError(path, f"no entry {entry!r}")
        node[last] = _in_one_line(change(node[last]))


def write_settings(path: Path, settings: Iterable[Setting]) -> None:
    """Puts settings into a file, with their reasons as comments; entries that are new are added.

    Raises ConfigError where what an entry belongs to is missing.
    """
    with _editing(path) as content:
        for setting in settings:
            node, last = _place(content, setting.entry, path)
            if setting.removed:
                del node[last]
                continue
            node[last] = _in_one_line(setting.value)
            node.ca.items.pop(last, None)
            node.yaml_add_eol_comment(setting.why, last, column=0)


@contextmanager
def _editing(path: Path) -> Iterator[Any]:
    """Yields the content of a file with its comments, and writes it back."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, _NEVER_WRAPPED
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda by, _: by.represent_scalar("tag:yaml.org,2002:null", "null"))
    content = yaml.load(path.read_text(encoding="utf-8"))
    yield content
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def _place(content: Any, entry: str, path: Path) -> tuple[Any, str]:
    """Returns the map that an entry belongs to, and its name there."""
    *above, last = entry.split(".")
    for key in above:
        content = content.get(key) if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise ConfigError(path, f"no entry {entry!r}")
    return content, last


def _in_one_line(value: Any) -> Any:
    """Returns a value whose maps and new lists are written in one line."""
    if not isinstance(value, dict | list) or isinstance(value, CommentedSeq):  # a list of the file stays as it is
        return value
    made: Any = CommentedMap(value) if isinstance(value, dict) else CommentedSeq(map(_in_one_line, value))
    made.fa.set_flow_style()
    return made


def _over(row: Any, defaults: Any) -> Any:
    """Returns a row over its defaults; a map of another `kind` has none."""
    if not (isinstance(row, dict) and isinstance(defaults, dict)) or row.get("kind") != defaults.get("kind"):
        return row
    return defaults | {key: _over(value, defaults[key]) if key in defaults else value for key, value in row.items()}


def _find(section: str, path: Path) -> Any:
    node: Any = _read_yaml(path)
    walked: list[str] = []
    for key in section.split("."):
        if not isinstance(node, dict) or key not in node:
            known = [str(name) for name in node] if isinstance(node, dict) else []
            raise ConfigError(path, f"no entry {'.'.join([*walked, key])!r}", expected=suggest(key, known))
        node, walked = node[key], [*walked, key]
    return node


def validate(kind: Any, node: object, where: str) -> Any:
    """Returns `node` (plain dicts, lists and scalars) as a `kind` (a dataclass or another
    annotation).

    Raises ConfigError with the first wrong key.
    """
    try:
        return _read(kind, node, where)
    except ValidationError as error:
        raise _explain(error, kind, where)[0] from None


def validate_kind(kinds: Mapping[str, Any], row: object, where: str) -> Any:
    """Returns the one of `kinds` that a row `{kind: <name>, ...settings}` names.

    Raises ConfigError where there is none, or a setting does not fit.
    """
    if not isinstance(row, Mapping) or "kind" not in row:
        raise ConfigError(where, f"{row!r}", expected=f"a map with `kind`, {suggest('', list(kinds))}")
    settings = dict(row)
    kind = str(settings.pop("kind"))
    if kind not in kinds:
        raise ConfigError(f"{where}.kind", f"{kind!r}", expected=suggest(kind, list(kinds)))
    return validate(kinds[kind], settings, where)


def find_faults(kind: Any, node: object, where: str) -> list[ConfigError]:
    """Returns every fault for which `validate` would refuse `node`, in the order in which it
    would.
    """
    try:
        _read(kind, node, where)
    except ValidationError as error:
        return _explain(error, kind, where)
    except ConfigError as error:
        return [error]
    return []


def _read(kind: Any, node: object, where: str) -> Any:
    check_numbers(node, where)
    try:
        # JSON mode, because there lists may become tuples and dicts dataclasses while scalars stay
        # strict.
        return TypeAdapter(kind).validate_json(json.dumps(node), strict=True)
    except ValidationError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(where, f"not plain settings ({error})", expected="maps, lists, numbers and text") from None


def _explain(error: ValidationError, kind: Any, where: str) -> list[ConfigError]:
    """Returns every fault, unknown keys first: a misspelt key is missing under its own name,
    too.
    """
    faults = error.errors(include_url=False)
    unknown = [fault for fault in faults if fault["type"] in _UNKNOWN]
    return [_tell(fault, kind, where) for fault in [*unknown, *(fault for fault in faults if fault not in unknown)]]


def _tell(fault: ErrorDetails, kind: Any, where: str) -> ConfigError:
    path = [str(part) for part in fault["loc"]]
    place = ".".join([where, *path])
    if fault["type"] in _UNKNOWN:
        return ConfigError(place, "unknown key", expected=suggest(path[-1], _keys_at(kind, path[:-1])))
    if fault["type"] in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return ConfigError(place, "this key is missing", fix="add it")
    found = f"{fault['input']!r} ({type(fault['input']).__name__})"
    return ConfigError(place, found, expected=fault["msg"].removeprefix("Input should be "))


def _keys_at(kind: Any, path: list[str]) -> list[str]:
    for key in path:
        field = getattr(kind, "__dataclass_fields__", {}).get(key)
        kind = field.type if field else None
    return list(getattr(kind, "__dataclass_fields__", {}))


@lru_cache(maxsize=1)
def _parse(text: str) -> Any:
    """Returns the content of YAML, and keeps it.

    A table of many rows is read row by row, and params.yaml takes 0.1 s.
    """
    return YAML(typ="safe", pure=True).load(text)


def _read_yaml(path: Path) -> Any:
    try:
        return deepcopy(_parse(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(path, "no such file", fix="run from the project's top folder, or pass --params") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(line, f"not valid YAML ({error.problem})", fix="fix that line") from None
    except (YAMLError, ValueError) as error:  # of no text, of a date or a number that can't be
        raise ConfigError(path, f"not valid YAML ({error})") from None
    except RecursionError:
        raise ConfigError(path, "not valid YAML (nested too deeply)", expected="sections with settings") from None


def read_exports(path: Path = PARAMS) -> list[str]:
    """Returns the students of the list `exports`.

    Raises ConfigError where one is not in the table `students`, or is there twice.
    """
    names: list[str] = validate(list[str], load_section(list, "exports", path), f"{path}: exports")
    students = list(load_rows("students", path))
    for index, name in enumerate(names):
        if name not in students:
            raise ConfigError(f"{path}: exports", f"no student {name!r}", expected=suggest(name, students))
        if name in names[:index]:
            raise ConfigError(f"{path}: exports", f"{name!r} twice", expected="each student once")
    return names
