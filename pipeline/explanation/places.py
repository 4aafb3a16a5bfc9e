"""The folders that the stage reads and writes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """The folders of the stage.

    Attributes:
        labels: The folder of the stores.
        evaluated: The folder of `evaluate`.
    """

    data: Path
    labels: Path
    evaluated: Path
    out: Path
    reports: Path
