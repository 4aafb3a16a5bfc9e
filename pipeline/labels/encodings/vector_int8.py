"""The encoding of embeddings in 8 bits, on a scale for each dimension."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Field, LabelSpace
from pipeline.labels.encodings.vectors import FILL, Int8Scale, VectorCodec, VectorEncoding


@dataclass(frozen=True, config=STRICT)
class VectorInt8(VectorEncoding):
    """An encoding of embeddings as 8-bit codes, 1 byte a dimension. The scale of each dimension is
    learned from the pilot.

    Error bound: that of `Int8Scale`.
    """

    kind: ClassVar[str] = "vector_int8"

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return {"vector_codes": Field((space.num_classes,), np.dtype(np.int8), FILL)}

    def tables(self, space: LabelSpace) -> dict[str, Field]:
        scale = Field((space.num_classes,), np.dtype(np.float32), float("nan"))
        return {"vector_centres": scale, "vector_steps": scale}

    def learn(self, vectors: torch.Tensor, space: LabelSpace) -> dict[str, np.ndarray]:
        return Int8Scale.learn(vectors).tables()

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return VectorInt8Codec(space, Int8Scale.of_tables(tables))


class VectorInt8Codec(VectorCodec):
    """The codec of `VectorInt8`."""

    def __init__(self, space: LabelSpace, scale: Int8Scale) -> None:
        super().__init__(space)
        self._scale = scale

    def encode(
        self,
        vectors: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return {"vector_codes": self._scale.encode(vectors)}

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        return self._scale.decode(fields["vector_codes"])
