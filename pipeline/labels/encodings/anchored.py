"""The k most likely classes, beside what the teacher predicts for the sample's first views."""

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.labels.encodings.base import (
    NO_ANCHORS,
    Codec,
    Encoding,
    Field,
    LabelSpace,
    log_normalise,
    smallest_unsigned,
)
from pipeline.labels.encodings.tail import TailModel, most_likely
from pipeline.labels.encodings.topk import TopK, TopKCodec
from pipeline.labels.targets import Detail

_LARGEST_STEP = 254  # of an anchor; a byte's largest number is the fill value


@dataclass(frozen=True, config=STRICT)
class Anchored(Encoding):
    """The encoding of the `k` most likely classes beside an anchor: one coarse distribution for
    each sample, made of the teacher's predictions for its first `anchor_views` views.

    An anchor is stored as its `anchor_classes` most likely classes, in their order, and how far
    each lies below the first, in steps of `anchor_step_nats`; all other classes share one such
    number. A label is stored as `topk` stores it, with two differences: a kept class is stored by
    its place in the anchor, and the tail has the anchor's shape.

    Error bound: that of `TopK`. The most likely class is always the teacher's."""

    k: Annotated[int, Limits(ge=1, le=10**6)]
    levels: Annotated[int, Limits(ge=2, le=65535)]
    range_nats: Annotated[float, Limits(gt=0, le=1000)]
    anchor_views: Annotated[int, Limits(ge=1, le=10**4)] = field()  # not 0, as the base class has it
    anchor_classes: Annotated[int, Limits(ge=1, le=10**6)]
    anchor_step_nats: Annotated[float, Limits(gt=0, le=100)]

    kind: ClassVar[str] = "anchored"

    @property
    def detail(self) -> Detail:
        return "filled tail"

    def check(self, space: LabelSpace, where: str) -> None:
        if self.k >= space.num_classes:
            most = f"at most {space.num_classes - 1} for {space.num_classes} classes"
            raise ConfigError(
                f"{where}.k", str(self.k), expected=most, fix="or a dense encoding, which is smaller then"
            )

    @property
    def label(self) -> TopK:
        """The encoding of a label whose tail's shape is known."""
        return TopK(self.k, self.levels, self.range_nats, tail="prior", tail_classes=self.anchor_classes)

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return self.label.fields(space)

    def anchors(self, space: LabelSpace) -> dict[str, Field]:
        listed, kept = self.label.table_classes(space), smallest_unsigned(space.num_classes)
        return {
            "anchor_classes": Field((listed,), kept, int(np.iinfo(kept).max), True, space.num_classes - 1),
            "anchor_steps": Field((listed + 1,), np.dtype(np.uint8), 255, by_column=True),
        }

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return AnchoredCodec(self, space)


class AnchoredCodec(Codec):
    """The codec of `Anchored`."""

    def __init__(self, encoding: Anchored, space: LabelSpace) -> None:
        super().__init__(space)
        self._encoding, self._listed = encoding, encoding.label.table_classes(space)

    def serves(self, temperature: float) -> bool:
        return self._beside(NO_ANCHORS).serves(temperature)

    def make_anchors(self, mean_log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
        # 1. The most likely classes, and the mean of all others.
        classes = most_likely(mean_log_probs, self._listed)
        others = mean_log_probs.scatter(1, classes, -torch.inf).logsumexp(dim=1, keepdim=True)
        others = others - math.log(self.space.num_classes - self._listed)
        # 2. How far each lies below the first one.
        listed = torch.cat([mean_log_probs.gather(1, classes), others], dim=1)
        steps = ((listed[:, :1] - listed) / self._encoding.anchor_step_nats).round().clamp(0, _LARGEST_STEP)
        kept = self._encoding.anchors(self.space)["anchor_classes"].torch_dtype
        return {"anchor_classes": classes.to(kept), "anchor_steps": steps.to(torch.uint8)}

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return self._beside(anchors).encode(log_probs, sample_ids, view)

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        return self._beside(fields).decode(fields, temperature)

    def _beside(self, anchors: Mapping[str, torch.Tensor]) -> TopKCodec:
        """Returns the codec of labels whose samples have these anchors."""
        encoding = self._encoding
        return TopKCodec(encoding.label, self.space, AnchorTail(self.space, anchors, encoding.anchor_step_nats))


class AnchorTail(TailModel):
    """The model in which a label's tail has the shape of its sample's anchor.

    Args:
        anchors: One for each label.
    """

    def __init__(self, space: LabelSpace, anchors: Mapping[str, torch.Tensor], step_nats: float) -> None:
        self._space, self._anchors, self._step_nats = space, anchors, step_nats

    def expected_log_mass(self, log_tail: torch.Tensor, kept: torch.Tensor, temperature: float) -> torch.Tensor:
        share = self._space.temperature / temperature
        tail = self.log_shares(kept, self._space.temperature).scatter(1, kept, -torch.inf)
        return (share * log_normalise(tail)).logsumexp(dim=1) + log_tail * share

    def log_shares(self, kept: torch.Tensor, temperature: float) -> torch.Tensor:
        scores = self._anchors["anchor_steps"].float() * -self._step_nats * (self._space.temperature / temperature)
        all_classes = scores[:, -1:].repeat(1, self._space.num_classes)
        return all_classes.scatter(1, self._anchors["anchor_classes"].long(), scores[:, :-1])

    def number(self, kept: torch.Tensor) -> torch.Tensor:
        listed = self._anchors["anchor_classes"].long()
        found = listed[:, None, :] == kept[:, :, None]
        return torch.where(found.any(dim=2), found.int().argmax(dim=2), listed.shape[1] + kept)

    def classes(self, numbers: torch.Tensor) -> torch.Tensor:
        listed = self._anchors["anchor_classes"].long()
        size = listed.shape[1]
        return torch.where(numbers < size, listed.gather(1, numbers.clamp(max=size - 1)), numbers - size)
