"""Every key of params.yaml, spoilt in every way: one line or nothing, and the doctor and the stage
agree.

All keys are too many for every run: FUZZ_SHARE=1 tries them all, in some minutes.
"""

import inspect
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

import stages.dump_labels
import stages.evaluate
import stages.explain
import stages.export
import stages.prepare
import stages.report
import stages.train_student
import stages.train_teacher
import stages.verify_labels
from pipeline.core import config
from pipeline.core.closure import TOP
from pipeline.core.errors import MOST_SIGNS, PipelineError
from pipeline.doctor.findings import Findings
from pipeline.doctor.params import SECTIONS, read_params
from pipeline.labelling.tune_source import LabelSettings
from pipeline.labels.encodings import ENCODINGS, Budget
from pipeline.labels.encodings.positions import Cells, Drawn
from pipeline.models import FAMILIES
from pipeline.preparation.sources import SOURCES
from pipeline.student.losses import LOSSES
from pipeline.student.settings import TrainStudent
from pipeline.views.operations import OPERATIONS

SHARE = int(os.environ.get("FUZZ_SHARE", 19))  # one of so many is tried
PARAMS = YAML(typ="safe", pure=True).load((TOP / "params.yaml").read_text())
STAGES: dict[str, tuple[Any, str, tuple[str, ...]]] = {  # the module, its first function that needs more than settings
    "prepare": (stages.prepare, "check_files", ()),
    "train_teacher": (stages.train_teacher, "ImageDataset", ()),
    "dump_labels": (stages.dump_labels, "ImageDataset", ()),
    "encodings": (stages.dump_labels, "ImageDataset", ()),
    "verify_labels": (stages.verify_labels, "ImageDataset", ()),
    "students": (stages.train_student, "ImageDataset", ("tiny", "tiny_hard", "small_hard")),
    "students_defaults": (stages.train_student, "ImageDataset", ("small", "tiny_hard")),
    "evaluate": (stages.evaluate, "read_manifests", ()),
    "explain": (stages.explain, "distilled_students", ()),
    "exports": (stages.report, "read_content", ()),
    "export": (stages.export, "library_versions", ("small",)),
}
# What the file leaves out, so that it is spoilt, too.
PARAMS["prepare"] |= {"image_px": [28, 28], "storage": "encoded", "longest_px": 64}
PARAMS["train_teacher"] |= {"input": {"size_px": [28, 28], "mean": [0.5], "std": [0.5]}}
PARAMS["train_teacher"]["views"]["operations"] += [
    {"kind": "resized_crop", "scale": [0.5, 1.0], "ratio": [0.75, 1.33]},
    {"kind": "mixup", "alpha": 0.2, "probability": 0.5},
]
PARAMS["encodings"]["drawn"] = {"kind": "sampled", "draws": 8, "seed": 0}
PARAMS["encodings"] |= {"small": {"kind": "auto", "bytes": 6.0}, "close": {"kind": "auto", "kl_nats": 0.02}}
PARAMS["students"]["tiny"] |= {
    "loss": {"kind": "dist", "standardize": False, "inter_class_weight": 1.0, "intra_class_weight": 1.0}
}
PARAMS["students"]["tiny_hard"] |= {"group": "pair", "fit": {"epochs": 3, "patience_epochs": 2}}
ROWS = ("tiny", "tiny_hard", "small_hard")  # of the students: the others are alike


class Reached(Exception):  # noqa: N818
    """The end of the settings: all of them were taken."""


def other_type(value: object) -> object:
    return 7 if isinstance(value, str) else "x"


KEYS = ("misspelt", "removed")
WAYS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(KEYS, lambda value: value),
    "other type": other_type,
    "null": lambda value: None,
    "NaN": lambda value: float("nan"),
    "infinite": lambda value: float("inf"),
    "negative": lambda value: -1,
    "0": lambda value: 0,
    "0.0": lambda value: 0.0,
    "10^12": lambda value: 10**12,
    "1e12": lambda value: 1e12,
    "10^30": lambda value: 10**30,
    "1e30": lambda value: 1e30,
    "1e-30": lambda value: 1e-30,
    "true": lambda value: True,
    "empty text": lambda value: "",
    "list": lambda value: [value],
    "empty list": lambda value: [],
    "map": lambda value: {"kind": value},
    "empty map": lambda value: {},
}


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the place of every key, and of every entry of a list."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        if above == ("students",) and key not in ROWS:
            continue
        yield (*above, key)
        yield from places(value, (*above, key))


def cases() -> list[tuple[tuple[Any, ...], str]]:
    """Returns the places and ways that are tried."""
    every = [(place, way) for place in places(PARAMS) for way in WAYS if isinstance(place[-1], str) or way not in KEYS]
    return every[::SHARE]


def spoil(place: tuple[Any, ...], way: str) -> dict[str, Any]:
    """Returns all settings, of which one is spoilt."""
    params = deepcopy(PARAMS)
    node: Any = params
    for key in place[:-1]:
        node = node[key]
    value = node.pop(place[-1]) if way in KEYS else node[place[-1]]
    if way == "misspelt":
        node[f"{place[-1]}x"] = value
    elif way != "removed":
        node[place[-1]] = WAYS[way](value)
    return params


def faults_of_doctor(capsys: pytest.CaptureFixture[str]) -> list[str]:
    findings = Findings()
    read_params(Path("params.yaml"), findings)
    return [line[9:] for line in capsys.readouterr().out.splitlines() if line.startswith("error")]


def faults_of_stage(section: str, students: object, patch: pytest.MonkeyPatch) -> list[str]:
    """Returns what the stages that read a section refuse, before they look at anything else.

    Args:
        students: The table; a stage runs for the rows that are there.
    """

    def reached(*_: object, **__: object) -> None:
        raise Reached

    module, first, names = STAGES[section]
    patch.setattr(module, first, reached)
    faults = []
    there = [name for name in names if not isinstance(students, dict) or name in students]
    for arguments in [{"name": name} for name in there] or [{}]:
        try:
            module.main(**arguments)
        except Reached:
            continue
        except PipelineError as fault:
            faults.append(str(fault))
    return faults


def attempt(wrong: list[str], name: str, ask: Callable[..., list[str]], *arguments: Any) -> list[str]:
    """Returns the faults that are told; anything but a line is wrong."""
    try:
        return ask(*arguments)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        wrong.append(f"{name}: {ask.__name__} ends in a traceback: {error!r} ({frame.filename}:{frame.lineno})")
        return []


def numbers(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every number that a type describes."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float"):
            yield where, schema
        for key, value in schema.items():
            name = schema.get("name")
            yield from numbers(value, f"{where}.{name}" if isinstance(name, str) and key == "schema" else where)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from numbers(value, where)


def test_every_number_of_the_settings_has_both_of_its_bounds() -> None:
    kinds = [
        *SECTIONS.values(),
        TrainStudent,
        *ENCODINGS.values(),
        Cells,
        Drawn,
        Budget,
        *LOSSES.values(),
        *OPERATIONS.values(),
    ]
    kinds += [*SOURCES.values(), LabelSettings]
    for family in FAMILIES.values():
        kinds += [each.annotation for each in inspect.signature(family).parameters.values() if each.kind.name[0] == "K"]
    found = [each for kind in kinds for each in numbers(TypeAdapter(kind).core_schema, str(kind))]
    without = [name for name, number in found if not ({"gt", "ge"} & number.keys() and {"lt", "le"} & number.keys())]
    assert [name for name in without if not name.endswith(".class_map")] == []  # whose numbers are those of outputs
    assert len(found) > 80


def test_a_spoilt_key_is_one_line_for_the_doctor_and_the_stage_alike_or_for_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    taken: list[str] = []
    monkeypatch.setattr(config, "_read_yaml", lambda path: PARAMS)
    assert faults_of_doctor(capsys) == []
    for place, way in cases():
        name, section, params = f"{'.'.join(map(str, place))}: {way}", str(place[0]), spoil(place, way)
        monkeypatch.setattr(config, "_read_yaml", lambda path, params=params: params)
        told = attempt(wrong, name, faults_of_doctor, capsys)
        refused = told
        if section in STAGES:
            refused = attempt(wrong, name, faults_of_stage, section, params.get("students"), monkeypatch)
        counts["refused" if told else "taken"] += 1
        if bool(told) != bool(refused):
            wrong.append(f"{name}: the doctor {told}, the stage {refused}")
        wrong += [f"{name}: {line}" for line in told + refused if len(line) > MOST_SIGNS or "\n" in line]
        taken += [] if told else [name]
    print(dict(counts), *taken, sep="\n")
    assert not wrong, "\n".join(wrong)
    assert counts["refused"] > counts["taken"] > 0
