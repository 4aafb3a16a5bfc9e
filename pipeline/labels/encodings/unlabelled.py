"""No labels at all: a store of views, for students that learn from hard labels alone."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import StoreError
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace
from pipeline.labels.targets import Detail


@dataclass(frozen=True, config=STRICT)
class Unlabelled(Encoding):
    """An encoding that keeps nothing of the teacher: sample ids, views and canaries only.

    A hard-label twin reads such a store, so that it trains on the very views that its student
    trains on, by the same code. Since nothing of the teacher is in it, it stays the same when the
    teacher changes."""

    kind: ClassVar[str] = "none"
    signals = ("categorical", "binary", "grid")

    @property
    def detail(self) -> Detail:
        return "nothing"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return {}

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return UnlabelledCodec(space)


class UnlabelledCodec(Codec):
    """The codec of `Unlabelled`: it has nothing to write, and nothing to read."""

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return {}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        raise StoreError("encoding 'none'", "holds no soft labels", expected="soft_weight 0, or another store")
