"""Which device and which number format to compute with."""

import time
from typing import Literal

import torch
from torch import nn

from pipeline.artifacts import say
from pipeline.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]

_TRIAL_STEPS = 6
_WORTHWHILE = 0.7  # of a float32 step: far from 1, so that noise does not decide between a student and its twin


def choose_device(name: str, local_index: int = 0) -> torch.device:
    """The device by name; `auto` is CUDA where there is one, else the CPU. Raises ConfigError where it is not there.

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


def choose_precision(precision: Precision, model: nn.Module, images: torch.Tensor, device: torch.device) -> torch.dtype:
    """The number format to train in: `auto` is bfloat16 on CUDA, and on a CPU where a short trial shows it faster.

    A CPU without bfloat16 instructions emulates it and is not tried.
    """
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type != "cpu" or not _cpu_has_bfloat16():
        return torch.float32
    seconds = _trial_seconds(model, images)
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    chosen = torch.bfloat16 if ratio < _WORTHWHILE else torch.float32
    say(f"precision: a bfloat16 step takes {ratio:.2f} of a float32 step here, so {str(chosen).removeprefix('torch.')}")
    return chosen


def _cpu_has_bfloat16() -> bool:
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _trial_seconds(model: nn.Module, images: torch.Tensor) -> dict[torch.dtype, float]:
    """The fastest of a few forward and backward passes in either format, in turn, so that other work on the machine hits both
    alike; parameters and statistics are left as they were, gradients cleared."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fastest = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(_TRIAL_STEPS):
        for dtype in fastest:
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
                loss = model(images).float().logsumexp(dim=1).mean()
            loss.backward()
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
    return fastest
