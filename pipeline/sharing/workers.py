"""The one of several workers that a process is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.errors import ConfigError

_GOLDEN = 0.6180339887498949
_NAMES = {
    *("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    *("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"),
    *("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "JOB_COMPLETION_INDEX",
}


@dataclass(frozen=True)
class Worker:
    """A worker: one of several processes that do the same work: its number from 0, how many there
    are (None: not known), and its number on its machine.
    """

    index: int = 0
    count: int | None = 1
    local_index: int = 0

    @property
    def name(self) -> str:
        """The name for messages; empty where it is the only worker."""
        if self.count == 1:
            return ""
        return f" worker {self.index}" + (f" of {self.count}" if self.count else "")

    def first(self, length: int) -> int:
        """Returns the place in a list of work at which it begins, so that workers meet late."""
        if self.count:
            return self.index * length // self.count
        return int(self.index * _GOLDEN % 1 * length)  # spreads any number of them


def this_worker(option: str | None, environment: Mapping[str, str]) -> Worker:
    """Returns which worker this process is: `i/n` as the user said, or as torchrun, a SLURM job
    array or job, or a Kubernetes indexed job says in the environment; raises ConfigError.
    """
    if option is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", option)
        if not match or int(match[1]) >= int(match[2]):
            raise ConfigError("--worker", repr(option), expected="i/n with i from 0 to n - 1, such as 0/4")
        return Worker(int(match[1]), int(match[2]))
    number = {name: int(value) for name, value in environment.items() if name in _NAMES and value.isdigit()}
    if "RANK" in number and "WORLD_SIZE" in number:
        return Worker(number["RANK"], number["WORLD_SIZE"], number.get("LOCAL_RANK", 0))
    if "SLURM_ARRAY_TASK_ID" in number:
        first = number.get("SLURM_ARRAY_TASK_MIN", 0)
        return Worker(number["SLURM_ARRAY_TASK_ID"] - first, number.get("SLURM_ARRAY_TASK_COUNT"))
    if "SLURM_PROCID" in number and "SLURM_NTASKS" in number:
        return Worker(number["SLURM_PROCID"], number["SLURM_NTASKS"], number.get("SLURM_LOCALID", 0))
    if "JOB_COMPLETION_INDEX" in number:
        return Worker(number["JOB_COMPLETION_INDEX"], None)
    return Worker()
