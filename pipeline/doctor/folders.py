"""The folders of a project that a check-up looks into."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """The folders of raw data and of the outputs of three stages; none of them need exist."""

    raw: Path
    data: Path
    teacher: Path
    labels: Path
