"""The training recipe: its settings, the learning rate of a step, the optimizer, frozen layers."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from pipeline.core.bounds import BatchSize, Epochs, ShareBelow1
from pipeline.core.config import STRICT
from pipeline.models.precision import Precision
from pipeline.training.optimizers import LeanAdamW, LeanSGD

_DEEPEST_NUMBER = 4  # parts of a name: numbers further in count the layers of a block


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FitSettings:
    """The training recipe; every key stands in `params.yaml`.

    `accumulate_batches` are summed up into one optimizer step (fewer at the end of an epoch), whose
    gradient is the mean over them: the memory of one batch, the arithmetic of a batch that much
    larger (norms apart, which see one batch at a time). After `patience_epochs` in a row without a
    better validation accuracy training stops; the learning rate is that of all `epochs`, so
    patience saves epochs that bring nothing but never hurries the schedule.

    For a network that has learned elsewhere: in the first `freeze_epochs` all but the head stays as
    it is, norms and their statistics, too; and each block of layers below the head learns at
    `layer_decay` times the rate of the one above it, so that what is general changes least.

    References:
        Kevin Clark, Minh-Thang Luong, Quoc V. Le, Christopher D. Manning, "ELECTRA", 2020, arXiv
        2003.10555, appendix B (the learning rate decay by layer).
    """

    epochs: Annotated[int, Field(ge=0, le=10**6)]
    batch_size: BatchSize
    accumulate_batches: Annotated[int, Field(gt=0, le=10_000)]
    optimizer: Literal["adamw", "sgd"]
    learning_rate: Annotated[float, Field(gt=0, ge=1e-12, le=10**6)]
    weight_decay: Annotated[float, Field(ge=0, le=10**6)]
    schedule: Literal["cosine", "one_cycle"]
    warmup_fraction: ShareBelow1
    clip_norm: Annotated[float, Field(gt=0, ge=1e-12, le=10**12)]
    ema_decay: ShareBelow1
    patience_epochs: Epochs | None
    freeze_epochs: Annotated[int, Field(ge=0, le=10**6)]
    layer_decay: Annotated[float, Field(gt=0, ge=0.001, le=1)]
    precision: Precision
    compile: bool
    checkpoint_seconds: Annotated[float, Field(ge=0, le=10**9)]

    @property
    def spares_head(self) -> bool:
        """Whether the head is trained otherwise than the rest."""
        return self.freeze_epochs > 0 or self.layer_decay < 1


def learning_rate_factor(step: int, total: int, settings: FitSettings) -> float:
    """Returns the share of the peak learning rate at an optimizer step (0-based) of `total`.

    `cosine`: a linear warm-up over `warmup_fraction` of the steps, then half a cosine down to 0.
    `one_cycle`: the same, but starting from 1/25 and ending at 1/10,000 of the peak.

    References:
        Ilya Loshchilov, Frank Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016,
        arXiv 1608.03983. Leslie N. Smith, Nicholay Topin, "Super-Convergence", 2017, arXiv
        1708.07120, section 3.
    """
    start, end = (0.04, 1e-4) if settings.schedule == "one_cycle" else (0.0, 0.0)
    warmup = settings.warmup_fraction * total
    position = step + 1
    if position < warmup:
        return start + (1 - start) * position / warmup
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (position - warmup) / max(total - warmup, 1)))


def learning_rate_shares(
    parameters: Mapping[str, torch.Tensor], head: Collection[str], layer_decay: float
) -> dict[str, float]:
    """Returns by the name of each parameter its share of the learning rate.

    It is 1 in the head, and times `layer_decay` for each block further down.
    """
    shares = dict.fromkeys(parameters, 1.0)
    if layer_decay < 1:
        blocks = layer_blocks({name: tensor for name, tensor in parameters.items() if name not in head})
        for distance, block in enumerate(reversed(blocks), start=1):
            shares |= dict.fromkeys(block, layer_decay**distance)
    return shares


def layer_blocks(parameters: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """Returns the names of parameters in blocks of layers, those next to the inputs first.

    A block is what has a number of its own in the names (`layer1.0.conv1.weight` is of `layer1.0`),
    or else the same first two parts. Norms go with the block before them, and what belongs to the
    network itself (the position embedding of a transformer) with the first.
    """
    blocks: dict[str, list[str]] = {}
    for name in parameters:
        blocks.setdefault(_block_of(name), []).append(name)
    loose = blocks.pop("", [])
    merged: list[list[str]] = []
    for names in blocks.values():
        if all(parameters[name].ndim <= 1 for name in names):
            (merged[-1] if merged else loose).extend(names)
        else:
            merged.append(names)
    return [loose + merged[0], *merged[1:]] if merged else [loose]


def _block_of(name: str) -> str:
    path = re.sub(r"^(student\.classifier\.)?network\.", "", name).split(".")[:-1]
    for place, part in enumerate(path[:_DEEPEST_NUMBER], start=1):
        if re.fullmatch(r"(.*_)?\d+", part):
            return ".".join(path[:place])
    return ".".join(path[:2])


def build_optimizer(model: nn.Module, settings: FitSettings, head: Collection[str] = ()) -> torch.optim.Optimizer:
    """Returns AdamW, or SGD with Nesterov momentum 0.9; norms and biases are not decayed.

    Every group says by `lr_share` which part of the learning rate is its own. What the network's
    maker has frozen is in none.

    Args:
        head: The names of the parameters that are above all blocks; whoever `spares_head` needs it.
    """
    # A frozen one may even be of whole numbers.
    parameters = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    shares = learning_rate_shares(parameters, head, settings.layer_decay)
    # What is frozen while the head is not needs groups of its own: SGD can't start some momenta of
    # a group later.
    kinds = {name: (shares[name], settings.freeze_epochs > 0 and name in head) for name in parameters}
    groups = []
    for kind in dict.fromkeys(kinds.values()) or [(1.0, False)]:
        own = [parameters[name] for name in parameters if kinds[name] == kind]
        decayed, others = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": settings.weight_decay, "lr_share": kind[0]})
        groups.append({"params": others, "weight_decay": 0.0, "lr_share": kind[0]})
    if settings.optimizer == "adamw":
        return LeanAdamW(groups, lr=settings.learning_rate, fused=True)
    return LeanSGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)


class Backbone:
    """A network without its head, to be frozen and let go again."""

    def __init__(self, model: nn.Module, head: Collection[str]) -> None:
        named = model.named_parameters()
        self._parameters = [tensor for name, tensor in named if name not in head and tensor.requires_grad]
        heads = {name.rpartition(".")[0] for name in head}
        self._norms = [
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.modules.batchnorm._NormBase) and name not in heads
        ]

    def freeze(self, frozen: bool) -> None:
        """Freezes parameters, and the statistics of norms, for the rest of an epoch, or frees the
        parameters.
        """
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
        for norm in self._norms if frozen else ():
            norm.eval()
