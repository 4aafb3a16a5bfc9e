"""The encoding of embeddings in 16 bits."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Field, LabelSpace
from pipeline.labels.encodings.vectors import VectorCodec, VectorEncoding

_MOST = 65504.0


@dataclass(frozen=True, config=STRICT)
class VectorFloat16(VectorEncoding):
    """An encoding of embeddings as IEEE half precision, 2 bytes a dimension.

    Error bound: |stored - exact| <= 2^-11 |exact| + 2^-25, up to 65,504, where it clips.
    """

    kind: ClassVar[str] = "vector_float16"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return {"vectors": Field((space.num_classes,), np.dtype(np.float16), float("nan"))}

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return VectorFloat16Codec(space)


class VectorFloat16Codec(VectorCodec):
    """The codec of `VectorFloat16`."""

    def encode(
        self,
        vectors: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return {"vectors": vectors.clamp(-_MOST, _MOST).half()}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        return fields["vectors"].float()
