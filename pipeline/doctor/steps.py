"""Whether networks are trained for enough steps: a short schedule is the commonest reason for poor
students of few images.
"""

from pipeline.doctor.facts import epochs_for
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look
from pipeline.doctor.params import Params
from pipeline.doctor.schedule import STUDENT_STEPS, TEACHER_STEPS
from pipeline.student.settings import TrainStudent
from pipeline.teacher.settings import TrainTeacher
from pipeline.training.batches import num_steps
from pipeline.training.recipe import FitSettings

FEW_STEPS = 1000  # of a network that starts from nothing


def check_steps(params: Params, look: Look, findings: Findings) -> None:
    """Warns of schedules with too few steps, by the images that are there.

    Networks that start from weights need fewer and are left out.
    """
    count, things = look.data.num_samples["train"], look.things
    labelled = count - look.data.num_unlabelled
    teacher = params.get(TrainTeacher)
    if teacher is not None and teacher.weights is None and teacher.fit.epochs:
        _check(f"{params.path}: train_teacher", teacher.fit, (labelled, things), TEACHER_STEPS, findings)
    for name, row in params.students.items():
        if row.weights is None:
            seen = labelled if _needs_classes(row) else count
            _check(f"{params.path}: students.{name}", row.fit, (seen, things), STUDENT_STEPS, findings)


def _needs_classes(row: TrainStudent) -> bool:
    return row.needs_hard_labels


def _check(where: str, fit: FitSettings, seen: tuple[int, str], wanted: int, findings: Findings) -> None:
    """Warns where what is seen in an epoch, a count and its name, is too little."""
    count, things = seen
    size = fit.batch_size * min(fit.accumulate_batches, num_steps(count, fit.batch_size))
    steps = fit.epochs * -(-num_steps(count, fit.batch_size) // fit.accumulate_batches)
    if steps < FEW_STEPS:
        fix = f"fit.epochs: {epochs_for(wanted, count, size)} would give them"
        found = f"{fit.epochs} epochs of {count:,} {things} in batches of {size} are {steps:,} steps"
        findings.warning(f"{where}: {found}; expected {wanted:,} or so; {fix}, or a smaller batch_size")
