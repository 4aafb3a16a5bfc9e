"""The place where the workers of a dump meet, and what an earlier dump has left there."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core.scratch import Scratch
from pipeline.sharing.claims import Claims
from pipeline.sharing.workers import Worker

_SAME_CODE = ("code", "torch", "device")  # labels of an earlier dump are taken over only where these are the same


@dataclass(frozen=True)
class DumpSite:
    """The place where the workers of a dump meet: their scratch folder and their claims.

    Attributes:
        worker: The one that this process is.
        grow: A folder of finished stores whose labels are taken over; None: the dump before this
            one.
        title: The command in messages.
    """

    scratch: Scratch
    claims: Claims
    worker: Worker
    grow: Path | None = None
    title: str = "dump_labels"

    @property
    def earlier(self) -> Path | None:
        """The folder of finished stores whose labels may be taken over; None: there is none."""
        if self.grow is not None:
            return self.grow
        decided = self.scratch.read_kept().get("decides", {})
        same = all(decided.get(name) == self.scratch.decides[name] for name in _SAME_CODE)
        return self.scratch.kept / "output" if same else None
