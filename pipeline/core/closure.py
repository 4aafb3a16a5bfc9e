"""The import closure of a script, and its fingerprint.

The closure is made of the files of this project that can change what the script does.

Found by reading the files, not by looking at what is loaded, so that imports inside functions count
from the start.

To parse and compile 200 files takes 0.3 seconds of each stage's start. So what each file was found
to do is kept beside the bytecode. It is true as long as the content of that file, the list of all
files, this file and Python are the same.
"""

import ast
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from pipeline.core.errors import DataError
from pipeline.core.sealed import read_sealed, write_sealed

TOP = Path(__file__).parents[2]
#: The packages of this project. Where it is installed, those of others lie beside them.
OWN = ("pipeline", "stages", "potstill", "benchmarks", "tests")


def import_closure(script: Path, top: Path = TOP) -> list[Path]:
    """Returns the script and all files below `top` that it imports, directly or not, sorted.

    Empty files are left out.
    """
    seen: set[Path] = set()
    waiting = [top / script]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(file for name in _read(path, top).imports for file in _files_of(name.full, top))
    _found(top).keep()
    return sorted(path.relative_to(top) for path in seen if path.stat().st_size)


def code_fingerprint(script: Path, top: Path = TOP) -> str:
    """Returns 32 hex digits that change when the code in the closure of `script` changes what it
    does.

    Comments, docstrings, the names of files and the order of imports are left out: to reword a
    docstring or to move a file does not train a network again. What is imported counts by the
    content of the file that it comes from.
    """
    digests = []
    for path in import_closure(script, top):
        own = _read(top / path, top)
        imports = sorted(f"{name.given} as {name.known} from {_origin(name.full, top)}" for name in own.imports)
        digests.append(_digest("\n".join([own.digest, *imports])))
    return _digest("\n".join(sorted(digests)))[:32]


class _Name(NamedTuple):
    """A name that a file imports from this project."""

    full: str
    given: str
    known: str


class _Code(NamedTuple):
    """The work of one file, as a digest, and its imports from this project."""

    digest: str
    imports: list[_Name]


class _Found:
    """The files below a folder that count as this project's, and what each was found to do."""

    def __init__(self, top: Path) -> None:
        self.files = frozenset(_own_files(top))
        self._top = top
        self._path = Path(cache_from_source(str(top / "pipeline/core/closure.py"))).with_suffix(".json")
        listed = _digest("\n".join(sorted(str(path.relative_to(top)) for path in self.files)))
        self._by = {"python": sys.version, "reader": _digest(Path(__file__).read_text("utf-8")), "listed": listed}
        self._known: dict[str, Any] = {}
        with suppress(DataError, OSError):  # not kept so far, or damaged
            kept = read_sealed(self._path, made_by="")
            if kept["by"] == self._by:
                self._known = kept["found"]
        self._changed = False

    def read(self, path: Path) -> _Code:
        """Returns what a file does, which is found out where its content is new."""
        content, name = path.read_bytes(), path.relative_to(self._top).as_posix()
        digest = hashlib.sha256(content).hexdigest()
        if name not in self._known or self._known[name][0] != digest:
            self._known[name] = (digest, *_compiled(content, self._top))
            self._changed = True
        _, work, imports = self._known[name]
        return _Code(work, [_Name(*each) for each in imports])

    def keep(self) -> None:
        """Keeps for later processes what was found out, where Python may keep its bytecode."""
        if self._changed and not sys.dont_write_bytecode:
            with suppress(OSError):  # a folder that is another user's, a full disk
                write_sealed(self._path, {"by": self._by, "found": self._known}, indent=None)
        self._changed = False


@cache
def _found(top: Path) -> _Found:
    return _Found(top)


def _own_files(top: Path) -> Iterator[Path]:
    """Yields the files of Python below `top` that can be imported from this project."""
    for start in [top / name for name in OWN] if top == TOP else [top]:
        for folder, inner, names in os.walk(start, followlinks=True):
            inner[:] = [name for name in inner if name != "__pycache__"]
            yield from (Path(folder, name) for name in names if name.endswith(".py"))


@cache
def _read(path: Path, top: Path) -> _Code:
    return _found(top).read(path)


def _compiled(content: bytes, top: Path) -> _Code:
    tree = ast.parse(content)
    imports: list[_Name] = []
    _strip(tree, top, imports)
    # Bytecode says what the code does at a fifth of the time that a dump of the tree takes.
    return _Code(_digest(_told(compile(tree, "", "exec", dont_inherit=True, optimize=0))), imports)


def _strip(node: ast.AST, top: Path, imports: list[_Name]) -> None:
    """Takes docstrings and own imports out of all statements below a node; lists the imports."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        statements = getattr(node, name, None)
        if not isinstance(statements, list):
            continue
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and statements:
            del statements[: ast.get_docstring(node, clean=False) is not None]
        kept = [each for each in statements if not _is_own(each, top, imports)]
        statements[:] = kept or ([ast.Pass(lineno=1, col_offset=0)] if name == "body" else [])
        for each in kept:
            _strip(each, top, imports)


def _is_own(node: ast.AST, top: Path, imports: list[_Name]) -> bool:
    """Returns whether a statement imports nothing but files below `top`, which are listed."""
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide from this reader"
        if not _files_of(str(node.module), top):
            return False
        imports += [_Name(f"{node.module}.{each.name}", each.name, each.asname or each.name) for each in node.names]
        return True
    if not isinstance(node, ast.Import):
        return False
    own = [alias for alias in node.names if _files_of(alias.name, top)]
    imports += [_Name(alias.name, "", alias.asname or "") for alias in own]
    node.names = [alias for alias in node.names if alias not in own]
    return not node.names


def _told(value: object) -> str:
    """Returns what a code object does, or a constant of one: no places in the file, sets sorted."""
    if isinstance(value, CodeType):
        parts: list[object] = [
            value.co_name,
            value.co_flags,
            value.co_argcount,
            value.co_posonlyargcount,
            value.co_kwonlyargcount,
        ]
        parts += [value.co_code, value.co_exceptiontable, value.co_names, value.co_varnames]
        return repr([*parts, value.co_cellvars, value.co_freevars, *map(_told, value.co_consts)])
    if isinstance(value, tuple | frozenset):
        told = [_told(each) for each in value]
        return f"{type(value).__name__}({told if isinstance(value, tuple) else sorted(told)})"
    return f"{type(value).__name__}({value!r})"


def _origin(full: str, top: Path) -> str:
    """Returns the digest of the file that a name comes from: the innermost of those that its import
    runs.
    """
    return _read(_files_of(full, top)[-1], top).digest


@cache
def _files_of(name: str, top: Path) -> list[Path]:
    """Returns the files that run when a dotted name is imported, from the outermost package
    inwards.
    """
    found: list[Path] = []
    files = _found(top).files
    parts = name.split(".")
    if top == TOP and parts[0] not in OWN:
        return found
    for depth in range(1, len(parts) + 1):
        base = top.joinpath(*parts[:depth])
        found += [path for path in (base / "__init__.py", base.with_suffix(".py")) if path in files]
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
