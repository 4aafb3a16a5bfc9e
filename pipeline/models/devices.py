"""The device to compute with, and the data that may lie on it."""

from typing import Literal

import torch

from pipeline.core.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]

_RESIDENT_SHARE = 0.5  # of what is free on a device: the rest is for networks and their activations


def choose_device(name: str, local_index: int = 0) -> torch.device:
    """Returns the device by name; `auto` is CUDA where there is one, else the CPU.

    Raises ConfigError where it is not on this machine.

    Args:
        local_index: Of this process among those on its machine, which take its GPUs in turn.
    """
    available: dict[str, bool] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available.get(name):
        there = ", ".join(["auto", *(kind for kind, yes in available.items() if yes)])
        raise ConfigError(f"device {name!r}", "not on this machine", expected=f"one of: {there}")
    return torch.device(name, local_index % torch.cuda.device_count()) if name == "cuda" else torch.device(name)


def has_room(device: torch.device, num_bytes: int) -> bool:
    """Returns whether data of this size should lie on a device as long as a stage runs.

    It should only on a CUDA device: the memory of others is the machine's own.
    """
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= _RESIDENT_SHARE * free
