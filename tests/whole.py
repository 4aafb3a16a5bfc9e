"""Every stage, one after the other, in this process."""

from pathlib import Path
from typing import Any

import pytest
from project import write_params

from pipeline.results.costs import Cost
from stages import dump_labels, evaluate, explain, export, prepare, report, train_student, train_teacher, verify_labels

TIMES = {"one": {"p50": 1.0, "p95": 2.0}, "all": {"p50": 1.0, "p95": 2.0}}


def run_stages(folder: Path, params: dict[str, Any]) -> None:
    """Runs every stage in a folder, from the images to the report; the cost of a network is not
    measured.
    """
    path, data = write_params(folder, params), folder / "data"
    prepared, teacher, stores, students = (
        data / name for name in ("prepare", "train_teacher", "dump_labels", "train_student")
    )
    reports, work = folder / "reports", folder / "work"
    prepare.main(path, folder / "raw", prepared, work)
    train_teacher.main(path, prepared, teacher, reports, work)
    dump_labels.main(path, prepared, teacher, stores, work)
    verify_labels.main(path, prepared, teacher, stores, reports / "verify_labels.json")
    for name in params["students"]:
        train_student.main(name, path, prepared, str(stores), students, reports / "train_student", work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.evaluation.networks.measure_cost", lambda *asked: Cost(1, TIMES, 2, 1))
        evaluate.main(path, prepared, teacher, students, stores, reports, data / "evaluate")
    explain.main(path, prepared, teacher, students, stores, data / "evaluate", data / "explain", reports)
    for name in params["exports"]:
        export.main(name, path, prepared, students, data / "export", reports / "export", work)
    report.main(path, reports, data / "explain")
