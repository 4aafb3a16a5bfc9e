"""The time that each stage will take on this machine, from the speed of its networks on a few
images.
"""

from collections.abc import Mapping

from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look
from pipeline.doctor.labels import LabelStore
from pipeline.doctor.load import Load
from pipeline.doctor.networks import StudentCheck, TeacherCheck
from pipeline.doctor.params import Params
from pipeline.doctor.reporting import duration
from pipeline.doctor.schedule import other_seconds
from pipeline.export.settings import Export
from pipeline.labelling.settings import DumpLabels
from pipeline.student.settings import TrainStudent
from pipeline.student.weights import num_pilots
from pipeline.teacher.settings import TrainTeacher

_ROUNDED = 2.0  # times a step without rounding to 8 bits: 1.9 to 2.1 (convnet_small, width 24, 32 px)
Students = Mapping[str, tuple[TrainStudent, LabelStore]]


def stage_seconds(
    params: Params, dump: DumpLabels, students: Students, look: Look, findings: Findings
) -> dict[str, float]:
    """Returns the seconds of each stage, by its description; every network has a try on a batch."""
    load = Load()
    trained = {
        **_teacher_seconds(params, dump, look, findings),
        **_student_seconds(params, dump, students, look, findings),
    }
    seconds = {**_prepare_seconds(look), **trained}
    if trained:
        seconds["the other stages, and starting all of them"] = other_seconds(sum(trained.values()))
    if busy := load.remark():
        findings.ok(f"time: {busy}")
    return seconds


def _prepare_seconds(look: Look) -> dict[str, float]:
    if look.seconds is None:
        return {}
    count = sum(look.data.num_samples.values())
    return {f"prepare ({count:,} {look.things})": look.seconds * count}


def _teacher_seconds(params: Params, dump: DumpLabels, look: Look, findings: Findings) -> dict[str, float]:
    settings, num_samples = params.get(TrainTeacher), look.data.num_samples
    if settings is None:
        return {}
    cost = TeacherCheck(settings, look, f"{params.path}: train_teacher", dump).run(findings)
    if cost is None:
        return {}
    labelled = num_samples["train"] - look.data.num_unlabelled
    view = num_samples["train"] * cost.forward
    return {
        f"train_teacher ({settings.fit.epochs} epochs)": cost.of_training(settings.fit, labelled, num_samples["val"]),
        f"dump_labels ({dump.num_views} views, {duration(view)} each)": dump.num_views * view,
    }


def _student_seconds(
    params: Params, dump: DumpLabels, students: Students, look: Look, findings: Findings
) -> dict[str, float]:
    train, val = look.data.num_samples["train"], look.data.num_samples["val"]
    times = {}
    for name, (row, store) in students.items():
        cost = StudentCheck(row, look, f"{params.path}: students.{name}", store).run(findings)
        if cost is None:
            continue
        count = train if not row.needs_hard_labels else train - look.data.num_unlabelled
        seconds = cost.of_training(row.fit, count, val)
        seconds += num_pilots(vars(row), len(dump.temperatures)) * cost.of_pilot(row.fit.batch_size, count, val)
        times[f"train_student@{name} ({row.fit.epochs} epochs)"] = seconds
        if name in params.exports and (export := params.get(Export)) and export.int8 == "aware":
            images = export.aware.steps * row.fit.batch_size
            times[f"export@{name} (aware int8, {export.aware.steps} steps)"] = _ROUNDED * images * cost.training
    return times
