"""The findings of a check-up, each printed as soon as it is found."""

from collections import Counter
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

from pipeline.core.errors import PipelineError
from pipeline.core.progress import show
from pipeline.core.shortage import is_out_of_memory, memory_line
from pipeline.labelling.temporary import FullDiskError, full_disk_named

Level = Literal["ok", "warning", "error"]
Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


class Findings:
    """A printer of findings, one line each, that counts them by level.

    What several checks find is reported once. A quiet printer leaves out what is as it should be.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.counts: Counter[Level] = Counter()
        self._quiet = quiet
        self._reported: set[str] = set()

    def ok(self, line: object) -> None:
        self._report("ok", line)

    def warning(self, line: object) -> None:
        self._report("warning", line)

    def error(self, line: object) -> None:
        self._report("error", line)

    def attempt(
        self, make: Callable[Inputs, Result], *arguments: Inputs.args, **keywords: Inputs.kwargs
    ) -> Result | None:
        """Returns the result of `make`; reports an error that a user can fix, and returns None.

        A full disk for temporary files is a warning: it stops the check-up, not the run.
        """
        try:
            with full_disk_named():
                return make(*arguments, **keywords)
        except FullDiskError as fault:
            self.warning(f"{fault}; what needs it is left out here")
        except PipelineError as fault:
            self.error(fault)
        except (MemoryError, RuntimeError) as fault:
            if not is_out_of_memory(fault):
                raise
            self.error(memory_line(fault))
        return None

    def _report(self, level: Level, line: object) -> None:
        if str(line) in self._reported:
            return
        self._reported.add(str(line))
        self.counts[level] += 1
        if level != "ok" or not self._quiet:
            show(f"{level:9}{line}")
