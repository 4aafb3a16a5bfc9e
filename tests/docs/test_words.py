"""Plain English in every docstring, comment and page; functions and files of a readable size."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.closure import TOP

FOLDERS = ("pipeline", "potstill", "stages", "benchmarks", "docs", "tests")
FILES = sorted(path for folder in FOLDERS for path in (TOP / folder).rglob("*.py") if "__pycache__" not in path.parts)
ROOMS = sorted({"/".join(path.relative_to(TOP).parts[:-1][:2]) for path in FILES})

WIDTH = 100
MAX_PARAMETERS = 6
MAX_LINES = 320

#: Openings that make a fragment of a docstring.
FRAGMENTS = ("What", "Of", "Which", "Those", "Whose", "Where", "How", "That", "Who", "When", "For")
#: Words of the house that others do not use so, and what to write.
WORDS = {
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"bears?": "tolerates",
    r"but for": "except",
    r"tells": "reports, shows, names",
    r"(teacher|student|network|model)s? says?": "predicts",
    r"gives? back": "returns",
}
#: Words in -s that open a docstring and are no verbs.
NO_VERBS = {
    "This",
    "Its",
    "Views",
    "Samples",
    "Labels",
    "Images",
    "Classes",
    "Rows",
    "Blocks",
    "Bytes",
    "Files",
    "Logits",
}
PROPERTIES = {"property", "cached_property"}

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def files_of(room: str) -> list[Path]:
    return [path for path in FILES if "/".join(path.relative_to(TOP).parts[:-1][:2]) == room]


def docstrings(path: Path) -> Iterator[tuple[Documented, str]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node, text


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(TOP)}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', '')}"


def fault(node: Documented, text: str) -> str | None:
    """Returns what is wrong with how a docstring opens."""
    first = re.split(r"[^\w'-]", text, maxsplit=1)[0]
    if first in FRAGMENTS:
        return f"opens with {first!r}"
    if isinstance(node, ast.ClassDef) and first not in ("A", "An", "The"):
        return "a class opens with a noun and its article"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = {getattr(d, "attr", getattr(d, "id", "")) for d in node.decorator_list}
        if names & PROPERTIES and first in ("A", "An", "The", "Whether"):
            return None
        if not re.fullmatch(r"[A-Z][a-z-]+s", first) or first in NO_VERBS:
            return "a function opens with a verb ('Returns ...')"
    return None


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_open_with_a_verb_or_a_noun_and_no_fragment(room: str) -> None:
    faults = [
        f"{place(path, node)}: {wrong}: {text.splitlines()[0][:60]}"
        for path in files_of(room)
        for node, text in docstrings(path)
        if not getattr(node, "name", "").startswith("test_") and (wrong := fault(node, text))
    ]
    assert not faults, "\n".join(faults)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line numbers and texts of comments and strings; docstrings are strings."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


@pytest.mark.parametrize("room", ROOMS)
def test_words_are_those_of_the_field(room: str) -> None:
    pattern = re.compile(rf"\b({'|'.join(f'(?:{word})' for word in WORDS)})\b")
    faults = [
        f"{path.relative_to(TOP)}:{line}: {match[0]!r}"
        for path in files_of(room)
        if path != Path(__file__)
        for line, text in prose(path)
        if (match := pattern.search(text))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(TOP)) for path in [*TOP.glob("*.md"), *TOP.glob("docs/*.md")])
)
def test_pages_use_the_words_of_the_field(page: str) -> None:
    pattern = re.compile(rf"\b({'|'.join(f'(?:{word})' for word in WORDS)})\b")
    if page == "docs/log.md":
        pytest.skip("the log stays as it was written")
    lines = (TOP / page).read_text().splitlines()
    faults = [
        f"{page}:{number}: {match[0]!r}" for number, line in enumerate(lines, 1) if (match := pattern.search(line))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_and_comments_are_at_most_100_columns_wide(room: str) -> None:
    faults = []
    for path in files_of(room):
        lines = path.read_text().splitlines()
        wide = {number for number, line in enumerate(lines, 1) if len(line) > WIDTH}
        for node, _ in docstrings(path):
            string = node.body[0]
            faults += [
                f"{path.relative_to(TOP)}:{n}" for n in wide & set(range(string.lineno, (string.end_lineno or 0) + 1))
            ]
        faults += [f"{path.relative_to(TOP)}:{n}" for n in wide if lines[n - 1].lstrip().startswith("#")]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("room", [room for room in ROOMS if not room.startswith("tests")])
def test_functions_and_files_are_small(room: str) -> None:
    faults = []
    for path in files_of(room):
        if (count := len(path.read_text().splitlines())) > MAX_LINES:
            faults.append(f"{path.relative_to(TOP)}: {count} lines")
        tree = parsed(path)
        commands = tree.body if path.relative_to(TOP).parts[0] in ("stages", "benchmarks") else []
        for node in ast.walk(tree):
            # The parameters of a command are its options: typer reads them there.
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
                node in commands and not node.name.startswith("_")
            ):
                continue
            names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MAX_PARAMETERS:
                faults.append(f"{place(path, node)}: {count} parameters")
    assert not faults, "\n".join(faults)
