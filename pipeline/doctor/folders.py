"""The folders of a project that a check-up looks into."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core.scratch import WORK


@dataclass(frozen=True)
class Folders:
    """The folders of raw data, of the outputs of three stages, and of the records of finished work;
    none of them need exist.
    """

    raw: Path
    data: Path
    teacher: Path
    labels: Path
    work: Path = WORK
