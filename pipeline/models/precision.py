"""The number format that a network computes in."""

import time
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from pipeline.core.progress import say

Precision = Literal["auto", "float32", "bfloat16"]


_TRIAL_STEPS = 6


_WORTHWHILE = 0.7  # of a float32 step: far from 1, so that noise does not decide between a student and its twin


def choose_precision(precision: Precision, model: nn.Module, images: torch.Tensor, device: torch.device) -> torch.dtype:
    """Returns the number format to train in.

    `auto` is bfloat16 on CUDA, and on a CPU where a short trial shows it faster.

    A CPU without bfloat16 instructions emulates it and is not tried.
    """
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu" or not _cpu_has_bfloat16():
        return torch.float32
    seconds = _trial_seconds(model, images)
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    chosen = torch.bfloat16 if ratio < _WORTHWHILE else torch.float32
    say(f"precision: a bfloat16 step takes {ratio:.2f} of a float32 step here, so {str(chosen).removeprefix('torch.')}")
    return chosen


def inference_precision(precision: Precision, trained_in: str, device: torch.device) -> str:
    """Returns the number format to run a trained network in, `float32` or `bfloat16`.

    No clock has a say in it.

    `auto` is bfloat16 on a CUDA device that has it, and on a CPU that has it for a network that was
    trained so.
    """
    if precision != "auto":
        return precision
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    on_cpu = device.type == "cpu" and trained_in == "bfloat16" and _cpu_has_bfloat16()
    return "bfloat16" if on_gpu or on_cpu else "float32"


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Runs the operations that tolerate it (convolutions, products of matrices) in a number format.

    The format is `float32` or `bfloat16`.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _cpu_has_bfloat16() -> bool:
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _trial_seconds(model: nn.Module, images: torch.Tensor) -> dict[torch.dtype, float]:
    """Returns the seconds of the fastest of a few forward and backward passes in either format.

    The formats take turns, so that other work on the machine hits both alike. Parameters and
    statistics are left as they were, gradients cleared.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fastest = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(_TRIAL_STEPS):
        for dtype in fastest:
            start = time.perf_counter()
            with computing_in(str(dtype).removeprefix("torch."), torch.device("cpu")):
                loss = model(images).float().logsumexp(dim=1).mean()
            loss.backward()
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
    return fastest
