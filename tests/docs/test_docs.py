"""The examples of docs/own-data.md can be put into params.yaml as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core.closure import TOP
from pipeline.core.config import load_section, validate
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import SOURCES, build_source
from pipeline.student.settings import TrainStudent
from pipeline.teacher.settings import TrainTeacher

PAGE = TOP / "docs/own-data.md"
INPUTS = TOP / "docs/inputs.md"
WORDS = ("", "sources", "teacher", "student")


def examples(page: Path = PAGE) -> list[tuple[str, Any]]:
    """Returns the word that follows `yaml` in front of each block of a page, and the block's
    content.
    """
    blocks = re.findall(r"^```yaml ?(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(word, YAML(typ="safe", pure=True).load(text)) for word, text in blocks]


def of(word: str) -> list[Any]:
    return [content for each, content in examples() if each == word]


def section(name: str) -> dict[str, Any]:
    return load_section(dict, name, TOP / "params.yaml")


def over(defaults: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row over the defaults of params.yaml, `fit` key by key."""
    return defaults | row | {"fit": defaults["fit"] | row.get("fit", {})}


def test_every_example_is_of_a_kind_that_is_tried_below() -> None:
    assert {word for word, _ in examples()} == set(WORDS)
    assert PAGE.read_text().count("```yaml") == len(examples())


def test_the_sections_are_whole() -> None:
    for content in [content for page in (PAGE, INPUTS) for word, content in examples(page) if not word]:
        for name, settings in content.items():
            assert name == "prepare"
            validate(Prepare, settings, name).check(name)
            build_source(settings["source"], name)


def test_the_rows_of_sources_are_sources_and_every_kind_has_one() -> None:
    rows = [row for page in (PAGE, INPUTS) for word, rows in examples(page) if word == "sources" for row in rows]
    for row in rows:
        build_source(row, "row")
    assert {row["kind"] for row in rows} == set(SOURCES)


@pytest.mark.parametrize("row", of("teacher"), ids=lambda row: row["model"])
def test_a_teacher_is_a_teacher(row: dict[str, Any]) -> None:
    settings = over(section("train_teacher"), row)
    validate(TrainTeacher, settings, "train_teacher").check("train_teacher")
    exists(row["model"])


@pytest.mark.parametrize("row", of("student"), ids=lambda row: row["model"])
def test_a_student_is_a_student(row: dict[str, Any]) -> None:
    settings = over(section("students_defaults"), row)
    validate(TrainStudent, settings, "students.mine").check("students.mine", {"mine": row})
    assert row["labels"] in section("encodings")
    exists(row["model"])


def exists(model: str) -> None:
    """Asserts that a library has the network, and its weights where a tag names them."""
    library, _, name = model.partition("/")
    if library == "timm":
        import timm

        assert timm.is_model(name)
        assert "." not in name or name in timm.list_pretrained(name)
    if library == "torchvision":
        from torchvision import models

        assert name in models.list_models(module=models)
