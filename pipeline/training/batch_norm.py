"""Batch norm over a batch that several processes share, with the statistics of the whole batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode


class SyncedBatchNorm(TorchFunctionMode):
    """A mode in which `torch.nn.functional.batch_norm` takes its statistics over all processes.

    torch's `nn.SyncBatchNorm` takes the place of modules instead, and so of subclasses too, whose
    activation is then lost (timm's `BatchNormAct2d`); and it refuses a CPU. This leaves the
    network, its names and its weights as they are.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:
            return _BatchNorm(*args, **(kwargs or {})).run()
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _BatchNorm:
    """A call of `torch.nn.functional.batch_norm`, with the names and defaults of its arguments."""

    input: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5

    def run(self) -> Tensor:
        """Returns the normalised input."""
        if not self.training:
            return F.batch_norm(
                self.input, self.running_mean, self.running_var, self.weight, self.bias, False, self.momentum, self.eps
            )
        return self._on_cpu() if self.input.device.type == "cpu" else self._fused()

    def _fused(self) -> Tensor:
        group, world = distributed.group.WORLD, distributed.get_world_size()
        fused: Tensor = SyncBatchNorm.apply(
            self.input,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.eps,
            self.momentum,
            group,
            world,
        )
        return fused

    def _on_cpu(self) -> Tensor:
        # 1. Mean and variance over the rows of all processes.
        values = self.input.to(torch.promote_types(self.input.dtype, torch.float32))
        dims = [0, *range(2, self.input.ndim)]
        shape = [1, -1] + [1] * (self.input.ndim - 2)
        count = float(_sum(values.new_tensor(values.numel() // values.shape[1])))
        mean = _sum(values.sum(dims)) / count
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(dims)) / count
        # 2. The running statistics, as torch keeps them: the variance without bias.
        with torch.no_grad():
            if self.running_mean is not None and self.running_var is not None:
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        # 3. The normalised rows of this process.
        scale = (variance + self.eps).rsqrt()
        normed = centred * (scale if self.weight is None else scale * self.weight).view(shape)
        return (normed if self.bias is None else normed + self.bias.view(shape)).to(self.input.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes.

    Its gradient is such a sum, too, because the loss is the sum of all of theirs.
    """

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
