"""What a check-up finds, told line by line as it is found."""

from collections import Counter
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

from pipeline.core.errors import PipelineError

Level = Literal["ok", "warning", "error"]
Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


class Findings:
    """Lines on the standard output, and how many there were of each level."""

    def __init__(self) -> None:
        self.counts: Counter[Level] = Counter()

    def ok(self, line: object) -> None:
        self._tell("ok", line)

    def warning(self, line: object) -> None:
        self._tell("warning", line)

    def error(self, line: object) -> None:
        self._tell("error", line)

    def attempt(
        self, make: Callable[Inputs, Result], *arguments: Inputs.args, **keywords: Inputs.kwargs
    ) -> Result | None:
        """What `make` gives; None where it raises something that a user can fix, which is told."""
        try:
            return make(*arguments, **keywords)
        except PipelineError as fault:
            self.error(fault)
            return None

    def _tell(self, level: Level, line: object) -> None:
        self.counts[level] += 1
        print(f"{level:9}{line}", flush=True)
