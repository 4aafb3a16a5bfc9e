"""The place where the workers of `prepare` meet: the folder of their unfinished work, and their
claims on parts of it.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core.locks import DECIDES
from pipeline.sharing.claims import Claims
from pipeline.sharing.workers import Worker


@dataclass(frozen=True)
class Site:
    """The place where workers meet.

    Attributes:
        folder: Of unfinished work.
        claimed: The folder of claims.
        worker: The one that this process is.
    """

    folder: Path
    claimed: Path
    worker: Worker

    @property
    def claims(self) -> Claims:
        """The claims on parts of the work, each of which one process at a time does."""
        return Claims(self.claimed)

    def check(self) -> None:
        """Raises FileNotFoundError where another process has published, and cleared the folder."""
        if not (self.folder / DECIDES).exists():
            raise FileNotFoundError(self.folder)
