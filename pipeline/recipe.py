"""How a network is trained: the settings, the learning rate of a step, the optimizer."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from pipeline.config import STRICT
from pipeline.devices import Precision
from pipeline.lean_optimizers import LeanAdamW, LeanSGD

Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FitSettings:
    """The training recipe; every key stands in `params.yaml`.

    `accumulate_batches` are summed up into one optimizer step (fewer at the end of an epoch), whose gradient is the
    mean over them: the memory of one batch, the arithmetic of a batch that much larger (norms apart, which see one
    batch at a time). After `patience_epochs` in a row without a better validation accuracy training stops; the
    learning rate is that of all `epochs`, so patience saves epochs that bring nothing but never hurries the schedule.
    """

    epochs: NonNegativeInt
    batch_size: PositiveInt
    accumulate_batches: PositiveInt
    optimizer: Literal["adamw", "sgd"]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    schedule: Literal["cosine", "one_cycle"]
    warmup_fraction: Fraction
    clip_norm: PositiveFloat
    ema_decay: Fraction
    patience_epochs: PositiveInt | None
    precision: Precision
    checkpoint_seconds: NonNegativeFloat


def learning_rate_factor(step: int, total: int, settings: FitSettings) -> float:
    """The share of the peak learning rate at an optimizer step (0-based) of `total`.

    `cosine`: a linear warm-up over `warmup_fraction` of the steps, then half a cosine down to 0. `one_cycle`: the
    same, but starting from 1/25 and ending at 1/10,000 of the peak.

    References:
        Ilya Loshchilov, Frank Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016, arXiv 1608.03983.
        Leslie N. Smith, Nicholay Topin, "Super-Convergence", 2017, arXiv 1708.07120, section 3.
    """
    start, end = (0.04, 1e-4) if settings.schedule == "one_cycle" else (0.0, 0.0)
    warmup = settings.warmup_fraction * total
    position = step + 1
    if position < warmup:
        return start + (1 - start) * position / warmup
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (position - warmup) / max(total - warmup, 1)))


def build_optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9; norms and biases (one-dimensional) are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.optimizer == "adamw":
        return LeanAdamW(groups, lr=settings.learning_rate, fused=True)
    return LeanSGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
