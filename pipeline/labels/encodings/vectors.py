"""The abstract encoding of embeddings, and the scale of 8-bit codes for their dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int8

from pipeline.core.errors import StoreError
from pipeline.labels.encodings.base import Codec, Encoding
from pipeline.labels.targets import Detail

#: How the values of a vector are stored.
Precision = Literal["int8", "float16"]

FILL = -128
_MOST = 127
_MARGIN = 1.1  # of the range that a pilot shows: other samples go further
_LEAST = 1e-3  # of the widest dimension's range, so that one that is constant has a step, too


class VectorEncoding(Encoding):
    """An encoding of embeddings. Decoded labels have one value for each dimension kept."""

    signals = ("vector",)

    @property
    def detail(self) -> Detail:
        return "nothing"


class VectorCodec(Codec):
    """A codec of embeddings: these have no temperature, and are read at 1 alone."""

    def serves(self, temperature: float) -> bool:
        return temperature == self.space.temperature

    def require(self, temperature: float) -> None:
        if not self.serves(temperature):
            raise StoreError("temperature", f"{temperature:g}", expected="1", fix="embeddings have no temperature")


@dataclass(frozen=True)
class Int8Scale:
    """A scale of codes -127 to 127 for each dimension: code q stands for centre + step * q.

    Error bound: |stored - exact| <= step / 2 within 127.5 steps of the centre; values beyond clip
    to the last code.
    """

    centres: Float[torch.Tensor, " dimensions"]
    steps: Float[torch.Tensor, " dimensions"]

    @classmethod
    def learn(cls, vectors: Float[torch.Tensor, "labels dimensions"]) -> "Int8Scale":
        """Returns the scale whose codes span what some vectors show, and a tenth more."""
        low, high = vectors.double().amin(dim=0), vectors.double().amax(dim=0)
        reach = (high - low) / 2 * _MARGIN
        reach = reach.clamp(min=max(float(reach.max()) * _LEAST, torch.finfo(torch.float32).tiny * _MOST))
        return cls(((low + high) / 2).float().cpu(), (reach / _MOST).float().cpu())

    @classmethod
    def of_tables(cls, tables: Mapping[str, np.ndarray]) -> "Int8Scale":
        """Returns the scale that a store holds."""
        return cls(torch.from_numpy(tables["vector_centres"]), torch.from_numpy(tables["vector_steps"]))

    def tables(self) -> dict[str, np.ndarray]:
        """Returns the scale as a store holds it."""
        return {"vector_centres": self.centres.numpy(), "vector_steps": self.steps.numpy()}

    def encode(self, vectors: Float[torch.Tensor, "labels dimensions"]) -> Int8[torch.Tensor, "labels dimensions"]:
        """Returns the codes of vectors."""
        there = self._on(vectors.device)
        codes = ((vectors.float() - there.centres) / there.steps).round()
        return codes.clamp(-_MOST, _MOST).to(torch.int8)

    def decode(self, codes: Int8[torch.Tensor, "labels dimensions"]) -> Float[torch.Tensor, "labels dimensions"]:
        """Returns the vectors of codes, in float32."""
        there = self._on(codes.device)
        return codes.float() * there.steps + there.centres

    def _on(self, device: torch.device) -> "Int8Scale":
        return Int8Scale(self.centres.to(device), self.steps.to(device))
