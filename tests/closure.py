"""The import closure of a stage: which of the project's files can change what it does."""

import ast
from pathlib import Path

TOP = Path(__file__).parent.parent


def import_closure(script: Path, top: Path = TOP) -> list[str]:
    """The script and every file of the project that it imports, directly or not; empty files are left out."""
    seen: set[Path] = set()
    waiting = [top / script]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting.extend(_imports(path, top))
    return sorted(str(path.relative_to(top)) for path in seen if path.stat().st_size)


def _imports(path: Path, top: Path) -> set[Path]:
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide from this reader"
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                base = top.joinpath(*parts[:depth])
                found.update(p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file())
    return found
