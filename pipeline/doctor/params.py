"""The whole of params.yaml: every section and row, and every fault in them."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic.dataclasses import dataclass as settings_dataclass

from pipeline.core.config import (
    STRICT,
    find_faults,
    load_row,
    load_rows,
    load_section,
    read_exports,
    section_names,
    validate,
)
from pipeline.core.errors import ConfigError, suggest
from pipeline.doctor.findings import Findings
from pipeline.evaluation.settings import Evaluate
from pipeline.explanation.settings import Explain
from pipeline.export.settings import Export
from pipeline.labelling.settings import DumpLabels, VerifyLabels
from pipeline.labels.encodings import EncodingRow, build_row
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.base import Source
from pipeline.student.groups import check_alike
from pipeline.student.settings import TrainStudent
from pipeline.teacher.settings import TrainTeacher

SECTIONS: dict[str, type] = {
    "prepare": Prepare,
    "train_teacher": TrainTeacher,
    "dump_labels": DumpLabels,
    "verify_labels": VerifyLabels,
    "evaluate": Evaluate,
    "explain": Explain,
    "export": Export,
}
TABLES = ("encodings", "students", "exports")
_LAUNCHER, _OPTIONAL = "launcher", "students_defaults"
Settings = TypeVar("Settings")


@settings_dataclass(frozen=True, config=STRICT)
class Launcher:
    """The launchers with which the commands of some stages begin in dvc.yaml.

    They stand before `-m stages.<name>`, and only DVC reads them.
    """

    prepare: str
    train_teacher: str
    dump_labels: str
    train_student: str

    def elsewhere(self) -> set[str]:
        """Returns the stages that may run on another machine."""
        return {stage for stage, command in asdict(self).items() if command.split()[:1] != ["python"]}

    def check(self, where: str) -> None:
        """Raises ConfigError where the first word is no program, neither on PATH nor beside this
        Python.
        """
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        for stage, command in asdict(self).items():
            program = next(iter(command.split()), "")
            if shutil.which(program, path=places) is None:
                expected = "a command that takes `-m module`: python, or torchrun --nproc-per-node 4"
                raise ConfigError(f"{where}.{stage}", f"no program {program!r}", expected=expected)


@dataclass(frozen=True)
class Params:
    """The sound part of params.yaml."""

    path: Path
    sections: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None
    encodings: Mapping[str, EncodingRow] = field(default_factory=dict)
    students: Mapping[str, TrainStudent] = field(default_factory=dict)
    exports: Sequence[str] = ()

    def get(self, kind: type[Settings]) -> Settings | None:
        """Returns the section of this kind, None where it is not sound."""
        return next((found for found in self.sections.values() if isinstance(found, kind)), None)


def read_params(path: Path, findings: Findings) -> Params:
    """Returns the sound part of params.yaml, and reports every fault of the rest."""
    before = findings.counts["error"]
    names = findings.attempt(section_names, path)
    if names is None:
        return Params(path)
    known = [*SECTIONS, *TABLES, _LAUNCHER, _OPTIONAL]
    for name in names:
        if name not in known:
            findings.warning(f"{path}: {name}: nothing reads this section; expected {suggest(name, known)}")
    sections = {}
    for name, kind in SECTIONS.items():
        settings = _read(path, name, kind, findings)
        if settings is not None:
            sections[name] = settings
    _read(path, _LAUNCHER, Launcher, findings)
    source = None
    if prepare := sections.get("prepare"):
        source = findings.attempt(build_source, prepare.source, f"{path}: prepare.source")
        if source is not None:
            findings.attempt(prepare.check_kind, f"{path}: prepare", source.input_kind)
    tables = _encodings(path, findings), _students(path, findings)
    params = Params(path, sections, source, *tables, findings.attempt(read_exports, path) or [])
    if findings.counts["error"] == before:
        rows = f"{len(params.encodings)} encodings, {len(params.students)} students"
        findings.ok(f"{path}: {len(sections)} sections, {rows}, every key as it should be")
    return params


def _read(path: Path, name: str, kind: type, findings: Findings) -> Any:
    node = findings.attempt(load_section, dict, name, path)
    if node is None:
        return None
    faults = find_faults(kind, node, f"{path}: {name}")
    for fault in faults:
        findings.error(fault)
    if faults:
        return None
    settings = validate(kind, node, f"{path}: {name}")
    if hasattr(settings, "check"):
        findings.attempt(settings.check, f"{path}: {name}")
    return settings


def _encodings(path: Path, findings: Findings) -> dict[str, EncodingRow]:
    encodings = {}
    for name, row in (findings.attempt(load_rows, "encodings", path) or {}).items():
        encoding = findings.attempt(build_row, row, f"{path}: encodings.{name}")
        if encoding is not None:
            encodings[name] = encoding
    return encodings


def _students(path: Path, findings: Findings) -> dict[str, TrainStudent]:
    table = findings.attempt(load_rows, "students", path) or {}
    students: dict[str, TrainStudent] = {}
    for name in table:
        where = f"{path}: students.{name}"
        node = findings.attempt(load_row, dict, "students", name, path)
        faults = [] if node is None else find_faults(TrainStudent, node, where)
        for fault in faults:
            findings.error(fault)
        if node is not None and not faults:
            row: TrainStudent = validate(TrainStudent, node, where)
            students[name] = row
            findings.attempt(row.check, where, table)
    groups = {row.group for row in students.values()} - {None}
    for group in sorted(map(str, groups)):
        alike = {name: row for name, row in students.items() if row.group == group}
        findings.attempt(check_alike, alike, {}, f"{path}: students")
    return students
