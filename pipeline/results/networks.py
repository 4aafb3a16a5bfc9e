"""The name of the teacher among networks, and the stage that makes each."""

from typing import Final

#: The name of the teacher; no student may have it.
TEACHER: Final = "teacher"


def stage_of(name: str) -> str:
    """Returns the stage of the DAG that makes a network, for messages: `dvc repro <stage>`."""
    return "train_teacher" if name == TEACHER else f"train_student@{name}"
