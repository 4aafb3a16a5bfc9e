"""The front page is short and names every room; paths, links and commands of all pages exist."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from pipeline.core.closure import TOP
from stages.__main__ import COMMANDS, LABELS

README = TOP / "README.md"
MAX_README_LINES = 150
PAGES = [
    README,
    *sorted(page for page in TOP.glob("docs/*.md") if page.name != "log.md"),
    *sorted(path for path in TOP.glob("docs/recipes/*") if path.is_file()),
]
ROOMS = {path.parent.name for path in (TOP / "pipeline").glob("*/__init__.py")}
# networks/ and data/ are left out: pages name files there that users bring.
PATHS = re.compile(r"(?<![\w./-])(?:pipeline|stages|benchmarks|docs|tests)/[\w./-]*\w")
LINKS = re.compile(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)")


def test_the_readme_is_a_front_page() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_the_readme_has_a_line_for_every_room() -> None:
    named = re.findall(r"^\| `(\w+)` \| \S", README.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(ROOMS)


def test_the_tiers_of_the_readme_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    tiers = [set(re.findall(r"\w+", layer)) - {"pipeline"} for layer in layers]
    (picture,) = re.findall(r"^```\n(stages .*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    # A comment stands behind two spaces or more.
    drawn = [set(re.findall(r"\w+", re.split(r" {2,}", line)[0])) for line in picture.splitlines()]
    assert drawn == tiers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_paths_that_a_page_names_exist(page: Path) -> None:
    missing = {path for path in PATHS.findall(page.read_text()) if not (TOP / path).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for path, heading in LINKS.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not heading or heading in anchors(target), heading


def anchors(page: Path) -> set[str]:
    """Returns the names by which a git host links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    for folder in ("stages", "benchmarks"):
        modules = {path.stem for path in (TOP / folder).glob("*.py")}
        assert set(re.findall(rf"\b{folder}\.(\w+)", text)) - {"md", "py"} <= modules
    targets = set(re.findall(r"^(\w+):.*##", (TOP / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_every_claim_has_a_date_and_a_command() -> None:
    _, *sections = re.split(r"^## ", (TOP / "docs/benchmarks.md").read_text(), flags=re.MULTILINE)
    for section in sections:
        assert re.search(r"\d{4}-\d\d-\d\d", section), section
        assert re.search(r"`(python -m benchmarks\.\w+|make repro|pytest)\b", section), section


def test_the_map_of_the_benchmarks_names_their_files() -> None:
    text = ast.get_docstring(ast.parse((TOP / "benchmarks/__init__.py").read_text())) or ""
    named = re.findall(r"^ +(\w+\.py) ", text, re.MULTILINE)
    assert sorted(named) == sorted({path.name for path in (TOP / "benchmarks").glob("*.py")} - {"__init__.py"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_potstill_that_a_page_names_exist(page: Path) -> None:
    for name, inner in re.findall(r"`potstill ([a-z][a-z-]*)(?: ([a-z]+))?", page.read_text()):
        assert any(name in entries for entries in COMMANDS.values())
        assert not inner or name != "labels" or inner in LABELS
