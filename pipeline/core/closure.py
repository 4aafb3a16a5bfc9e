"""The import closure of a script, and its fingerprint.

The closure is made of the files of this project that can change what the script does.

Found by reading the files, not by looking at what is loaded, so that imports inside functions count
from the start.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[2]


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
    bare = _Bare(top)
    tree = bare.visit(ast.parse(path.read_text()))
    return _Code(_digest(ast.dump(tree)), bare.imports)


class _Bare(ast.NodeTransformer):
    """A visitor that takes docstrings and own imports out of a tree, and lists the imports."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self.imports: list[_Name] = []

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        own = [alias for alias in node.names if _files_of(alias.name, self._top)]
        for alias in own:
            self.imports.append(_Name(alias.name, "", alias.asname or ""))
        node.names = [alias for alias in node.names if alias not in own]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        assert node.level == 0, "relative imports hide from this reader"
        if not _files_of(str(node.module), self._top):
            return node
        for alias in node.names:
            self.imports.append(_Name(f"{node.module}.{alias.name}", alias.name, alias.asname or alias.name))
        return None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
        return super().generic_visit(node)


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
    found = []
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        base = top.joinpath(*parts[:depth])
        found += [path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()]
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
