"""The number format that a network computes in."""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16"]

# Where a step in bfloat16 takes half the time of one in float32, on a processor that has it:
# smaller networks gain little or lose.
_LARGE = 200_000  # parameters


def choose_precision(precision: Precision, model: nn.Module, device: torch.device) -> str:
    """Returns the number format to train in, `float32` or `bfloat16`.

    `auto` is bfloat16 on a CUDA device that has it, and on a CPU that has it for a large network. A
    rule and no trial: results do not depend on what else the machine did, and a student has its
    twin's format.
    """
    if precision != "auto":
        return precision
    large = sum(parameter.numel() for parameter in model.parameters()) >= _LARGE
    return "bfloat16" if _has_bfloat16(device) and (large or device.type == "cuda") else "float32"


def inference_precision(precision: Precision, trained_in: str, device: torch.device) -> str:
    """Returns the number format to run a trained network in, `float32` or `bfloat16`.

    `auto` is bfloat16 on a CUDA device that has it, and on a CPU that has it for a network that was
    trained so.
    """
    if precision != "auto":
        return precision
    wanted = device.type == "cuda" or trained_in == "bfloat16"
    return "bfloat16" if wanted and _has_bfloat16(device) else "float32"


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Runs the operations that tolerate it (convolutions, products of matrices) in a number format.

    The format is `float32` or `bfloat16`.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _has_bfloat16(device: torch.device) -> bool:
    """Returns whether a device computes in bfloat16 itself, without emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
