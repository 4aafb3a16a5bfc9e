"""The encoding of embeddings in fewer dimensions: a random orthogonal projection."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Seed
from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.core.seeding import philox
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Field, LabelSpace
from pipeline.labels.encodings.vector_float16 import VectorFloat16
from pipeline.labels.encodings.vector_int8 import VectorInt8
from pipeline.labels.encodings.vectors import Precision, VectorCodec, VectorEncoding


@dataclass(frozen=True, config=STRICT)
class Sketch(VectorEncoding):
    """An encoding of embeddings as `dimensions` numbers, whose squared distances are on average
    those of the embeddings. A reader sees these numbers; the projection comes from the seed, and
    nothing is stored for it.

    Of m numbers for D dimensions, a squared distance is off by about sqrt(2 / m) of it, less as m
    comes near D.
    """

    dimensions: Annotated[int, Limits(ge=1, le=1 << 16)]
    seed: Seed
    values: Precision

    kind: ClassVar[str] = "sketch"

    def num_values(self, space: LabelSpace) -> int:
        return self.dimensions

    def _check_settings(self, space: LabelSpace, where: str) -> None:
        if self.dimensions > space.num_classes:
            found, fix = f"{self.dimensions}, of embeddings of {space.num_classes}", "or take vector_int8"
            raise ConfigError(f"{where}.dimensions", found, expected=f"at most {space.num_classes}", fix=fix)

    @property
    def _inner(self) -> VectorEncoding:
        return VectorInt8() if self.values == "int8" else VectorFloat16()

    def _within(self, space: LabelSpace) -> LabelSpace:
        return replace(space, num_classes=self.dimensions)

    def _project(self, vectors: torch.Tensor) -> torch.Tensor:
        matrix = projection(vectors.shape[1], self.dimensions, self.seed)
        return vectors @ matrix.to(vectors.device, vectors.dtype)

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        return self._inner.fields(self._within(space))

    def tables(self, space: LabelSpace) -> dict[str, Field]:
        return self._inner.tables(self._within(space))

    def learn(self, vectors: torch.Tensor, space: LabelSpace) -> dict[str, np.ndarray]:
        return self._inner.learn(self._project(vectors), self._within(space))

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return SketchCodec(space, self, self._inner.codec(self._within(space), tables))


class SketchCodec(VectorCodec):
    """The codec of `Sketch`."""

    def __init__(self, space: LabelSpace, sketch: Sketch, inner: Codec) -> None:
        super().__init__(space)
        self._sketch, self._inner = sketch, inner

    def kept(self, values: torch.Tensor, fields: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._sketch._project(values)

    def encode(
        self,
        vectors: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        return self._inner.encode(self._sketch._project(vectors), sample_ids, view)

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        return self._inner.decode(fields, temperature)


@lru_cache(maxsize=8)
def projection(dimensions: int, kept: int, seed: int) -> Float64[torch.Tensor, "dimensions kept"]:
    """Returns orthogonal columns, drawn uniformly, each of the length sqrt(dimensions / kept).

    They are the Q of a Gaussian matrix whose R has a positive diagonal. With x and y embeddings,
    the mean of |xP - yP|^2 over seeds is |x - y|^2.

    References:
        Francesco Mezzadri, "How to generate random matrices from the classical compact groups",
        2007, arXiv math-ph/0609050, section 5. William B. Johnson, Joram Lindenstrauss, "Extensions
        of Lipschitz mappings into a Hilbert space", 1984.
    """
    place = np.arange(dimensions * kept, dtype=np.int64)
    words = philox(seed, (place, place * 0, place * 0, place * 0))
    first, second = ((word.astype(np.float64) + 0.5) / 2**32 for word in words[:2])
    normal = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
    q, r = np.linalg.qr(normal.reshape(dimensions, kept))
    return torch.from_numpy(q * np.where(np.diag(r) < 0, -1, 1) * np.sqrt(dimensions / kept))
