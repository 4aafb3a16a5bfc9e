"""Classes drawn from the teacher's distribution, with counts: right on average."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.sample_draws import sample_draws
from pipeline.core.seeding import derive_seed
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace, smallest_unsigned
from pipeline.labels.targets import Detail, SparseTargets

_SLOT = 1 << 16  # of the random numbers: draw d of a label uses word d % 4 of slot _SLOT + d // 4
_SPREAD = 1.0  # pseudo-draws that a reader who needs every class spreads evenly


@dataclass(frozen=True, config=STRICT)
class Sampled(Encoding):
    """An encoding of `draws` independent draws from the teacher's distribution at the stored
    temperature.

    It keeps the classes that were met and how often, most frequent first, by number among equals.

    Draw d of a label is the first class at which the cumulative probability exceeds a uniform
    number that is a pure function of (seed, sample id, view, d). `targets` gives counts / draws:
    the mean over draws of a cross-entropy against it, and of its gradient, is that of the teacher's
    own distribution. A class that was never drawn has no probability there, so that this KL(teacher
    || label) is infinite; `decode`, for readers who need every class, spreads one more draw evenly
    over all classes and is biased by that.

    Only the stored temperature can be served. Error bound: each class's share has the standard
    deviation sqrt(p (1 - p) / draws) around the teacher's p.

    References:
        Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs",
        2025, arXiv 2503.16870, section 3.
    """

    draws: Annotated[int, Limits(ge=1, le=65534)]
    seed: Annotated[int, Limits(ge=0, lt=2**64)]

    kind: ClassVar[str] = "sampled"

    @property
    def detail(self) -> Detail:
        return "some classes"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        size = min(self.draws, space.num_classes)
        classes, counts = smallest_unsigned(space.num_classes), smallest_unsigned(self.draws + 1)
        return {
            "classes": Field((size,), classes, int(np.iinfo(classes).max), by_column=True, most=space.num_classes - 1),
            "counts": Field((size,), counts, int(np.iinfo(counts).max), by_column=True),
        }

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return SampledCodec(self, space)


class SampledCodec(Codec):
    """The codec of `Sampled`."""

    def __init__(self, encoding: Sampled, space: LabelSpace) -> None:
        super().__init__(space)
        self._draws, self._seed = encoding.draws, derive_seed(encoding.seed, "sampled labels")
        self._fields = encoding.fields(space)

    def serves(self, temperature: float) -> bool:
        return temperature == self.space.temperature

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        # 1. Draw: a uniform number falls on the first class whose cumulative probability exceeds
        # it.
        cumulative = log_probs.double().exp().cumsum(dim=1)
        words = [sample_draws(self._seed, sample_ids, view, _SLOT + n) for n in range(-(-self._draws // 4))]
        uniform = torch.cat(words).T[:, : self._draws].to(log_probs.device).double() / 2**32
        # It is scaled by the total, which rounding keeps from being exactly 1.
        drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1:]).contiguous(), right=True)
        # 2. Count the draws of each class.
        counts = torch.zeros(log_probs.shape, dtype=torch.int32, device=log_probs.device)
        counts.scatter_add_(1, drawn.clamp(max=log_probs.shape[1] - 1), torch.ones_like(drawn, dtype=torch.int32))
        # 3. Keep the classes that were met, most frequent first.
        order = counts.argsort(dim=1, descending=True, stable=True)[:, : self._fields["classes"].shape[0]]
        found = counts.gather(1, order)
        # Unused places repeat the first class, with a count of 0: that compresses best.
        order = torch.where(found > 0, order, order[:, :1])
        return {
            "classes": order.to(self._fields["classes"].torch_dtype),
            "counts": found.to(self._fields["counts"].torch_dtype),
        }

    def targets(self, fields: dict[str, torch.Tensor], temperature: float) -> SparseTargets:
        self.require(temperature)
        return SparseTargets(fields["classes"].long(), (fields["counts"].float() / self._draws).log(), None)

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        self.require(temperature)
        classes = self.space.num_classes
        shape = (len(fields["counts"]), classes)
        counts = torch.full(shape, _SPREAD / classes, device=fields["counts"].device)
        counts.scatter_add_(1, fields["classes"].long(), fields["counts"].float())
        return (counts / (self._draws + _SPREAD)).log()
