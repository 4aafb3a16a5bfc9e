"""The import closure of a script, and its fingerprint.

The closure is made of the files of this project that can change what the script does.

Found by reading the files, not by looking at what is loaded, so that imports inside functions count
from the start.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

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


@cache
def _read(path: Path, top: Path) -> _Code:
    tree = ast.parse(path.read_bytes())
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
    parts = name.split(".")
    if top == TOP and parts[0] not in OWN:
        return found
    for depth in range(1, len(parts) + 1):
        base = top.joinpath(*parts[:depth])
        found += [path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()]
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
