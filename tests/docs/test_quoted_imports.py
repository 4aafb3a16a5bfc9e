"""Imports that stand in strings and pages name modules and names that exist."""

import ast
import re
from pathlib import Path

import pytest

from pipeline.core.closure import TOP

_IMPORT = re.compile(
    r"\b(?:from (?P<module>(?:pipeline|stages)[\w.]*) import (?P<names>\w+(?:, \w+)*)|import (?P<alone>(?:pipeline|stages)[\w.]*))"
)


def quoted(path: Path) -> str:
    """Returns the strings of a Python file, or the whole of a page."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    strings = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return "\n".join(value for value in strings if isinstance(value, str))


def is_there(module: str, name: str | None) -> bool:
    path = TOP / module.replace(".", "/")
    if name is None or (path / f"{name}.py").is_file() or (path / name).is_dir():
        return path.is_dir() or path.with_suffix(".py").is_file()
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (
        file.is_file() and re.search(rf"^\s*(?:def|class|async def)? ?\b{name}\b", file.read_text(), re.M) is not None
    )


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "stages", "docs"])
def test_what_strings_and_pages_import_exists(folder: str) -> None:
    for path in (file for kind in ("py", "md") for file in (TOP / folder).rglob(f"*.{kind}")):
        for found in _IMPORT.finditer(quoted(path)):
            module = found["module"] or found["alone"]
            for name in (found["names"] or "").split(", "):
                assert is_there(module, name or None), f"{path}: {found[0]}"
