"""`memory_budget_mb: auto`: the budget that this machine has room for, and that a resume keeps."""

import os
from pathlib import Path
from typing import Literal

from pipeline.core.files import read_json, write_json
from pipeline.core.memory import free_bytes
from pipeline.core.progress import say

LEAST_MB = 8
_RECORD = "memory_budget.json"
_CODE_BYTES = 48_000_000  # of libraries' code, which a step goes through: read again where it has no room


def megabytes_here() -> int:
    """Returns a power of two of megabytes: at most half of what is free, a little set aside.

    A network, its gradients and activations take the other half. A power of two, so that other
    programs change the choice seldom. Several processes of one launcher share what is free.
    """
    processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    room = (free_bytes() - _CODE_BYTES) // (2 * processes) // 1_000_000
    return 1 << max(room, LEAST_MB).bit_length() - 1


def settle(setting: int | Literal["auto"], where: str, scratch: Path | None = None) -> int:
    """Returns a setting's number; `auto` is chosen here, and reported.

    Args:
        where: The setting, for the line that reports the choice.
        scratch: The folder of unfinished work. It keeps the choice, because the order of a streamed
            epoch depends on it: work that goes on has the budget that it began with.
    """
    if setting != "auto":
        return setting
    record = None if scratch is None else scratch / _RECORD
    if record is not None and record.exists():
        chosen = int(read_json(record, made_by="memory_budget_mb: auto")["megabytes"])
        say(f"{where}: auto, {chosen} MB as when this work began")
        return chosen
    chosen = megabytes_here()
    if record is not None:
        write_json(record, {"megabytes": chosen})
    say(f"{where}: auto, {chosen} MB of {free_bytes() // 1_000_000:,} MB that are free")
    return chosen
