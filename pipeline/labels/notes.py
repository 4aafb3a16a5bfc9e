"""The lines about what a store's labels stand for, where that is not what its views show."""

from collections.abc import Mapping
from typing import Any

from pipeline.labels.manifest import Manifest


def told_notes(manifest: Manifest, where: str) -> list[str]:
    """Returns a line for each note in a manifest, about the labels that `where` names."""
    return [f"{where}: {note}" for note in notes_of(manifest.teacher)]


def notes_of(teacher: Mapping[str, Any] | None) -> list[str]:
    """Returns the note about a teacher's labels, or those of every teacher of a mean."""
    teacher = teacher or {}
    own = [str(teacher["note"])] if teacher.get("note") else []
    return own + [note for part in teacher.get("mean_of") or [] for note in notes_of(part["teacher"])]
