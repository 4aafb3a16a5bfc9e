"""Batch norm over a batch whose rows are spread over processes: the statistics are those of the whole batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode


class SyncedBatchNorm(TorchFunctionMode):
    """Where it is entered, `torch.nn.functional.batch_norm` in training takes its statistics over all processes.

    torch's `nn.SyncBatchNorm` takes the place of modules instead, and so of subclasses too, whose activation is then lost
    (timm's `BatchNormAct2d`); and it refuses a CPU. This leaves the network, its names and its weights as they are.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,  # noqa: A002 - the names are those of the function in whose place it is called
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.device.type != "cpu":
        group, world = distributed.group.WORLD, distributed.get_world_size()
        fused: Tensor = SyncBatchNorm.apply(input, weight, bias, running_mean, running_var, eps, momentum, group, world)
        return fused
    values = input.to(torch.promote_types(input.dtype, torch.float32))
    dims = [0, *range(2, input.ndim)]
    shape = [1, -1] + [1] * (input.ndim - 2)
    count = float(_sum(values.new_tensor(values.numel() // values.shape[1])))
    mean = _sum(values.sum(dims)) / count
    centred = values - mean.view(shape)
    variance = _sum(centred.square().sum(dims)) / count
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * count / (count - 1), momentum)
    scale = (variance + eps).rsqrt()
    normed = centred * (scale if weight is None else scale * weight).view(shape)
    return (normed if bias is None else normed + bias.view(shape)).to(input.dtype)


class _Sum(torch.autograd.Function):
    """Over the processes; so is its gradient, because the loss is the sum of all of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _sum(own: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(own)
    return total
