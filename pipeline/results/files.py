"""Results to files and back: plain JSON, keys in the order of the fields."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.core.errors import DataError
from pipeline.core.files import read_json, write_json

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Returns a result as plain JSON.

    A field with the default None is left out where it has no value; every other one is written,
    None as null."""
    if is_dataclass(value):
        values = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: to_json(each) for field, each in values if each is not None or field.default is not None}
    if isinstance(value, Mapping):
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return value


def write_result(path: Path, result: Any) -> None:
    """Writes a result whole or not at all."""
    write_json(path, to_json(result))


def read_result(kind: type[T], path: Path, *, made_by: str) -> T:
    """Returns the result that a stage wrote. Raises DataError where the file is missing or of
    another shape.
    """
    content = read_json(path, made_by=made_by)
    try:
        result: T = TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(path, f"{where}: {first['msg']}", fix=f"run `dvc repro {made_by}`") from None
    return result
