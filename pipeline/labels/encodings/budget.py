"""A row of the table `encodings` that names a budget: the dump chooses the encoding for it."""

from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.core.config import STRICT

#: A figure of the KL of some labels, by its name in a manifest.
Figure = Literal["mean", "p999"]
FIGURES: tuple[Figure, ...] = ("mean", "p999")

_Nats = Annotated[float, Field(gt=0, le=10**6)]


@dataclass(frozen=True, config=STRICT)
class Budget:
    """The most that a label may take, or the most that labels may lose: one of these limits.

    Attributes:
        bytes: Bytes on disk per label, with its share of the encoding's tables.
        kl_nats: Mean KL in nats to the teacher, at every declared temperature.
        kl_p999_nats: The KL that 99.9% of the labels stay below, likewise.
    """

    bytes: Annotated[float, Field(gt=0, le=10**9)] | None = None
    kl_nats: _Nats | None = None
    kl_p999_nats: _Nats | None = None

    kind: ClassVar[str] = "auto"

    @model_validator(mode="after")
    def _has_one_limit(self) -> "Budget":
        if len(self.limit) != 1:
            raise PydanticCustomError("budget", "one of `bytes`, `kl_nats` and `kl_p999_nats`")
        return self

    @property
    def figure(self) -> Figure:
        """The figure of the KL by which encodings are compared."""
        return "mean" if self.kl_p999_nats is None else "p999"

    @property
    def nats(self) -> float:
        """The most nats of that figure; of a budget of bytes any number."""
        limits = (self.kl_nats, self.kl_p999_nats)
        return next((nats for nats in limits if nats is not None), float("inf"))

    @property
    def limit(self) -> dict[str, float]:
        """The limit by its unit."""
        return {unit: value for unit, value in asdict(self).items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Returns the row that makes this budget again."""
        return {"kind": self.kind, **self.limit}

    def __str__(self) -> str:
        if self.bytes is not None:
            return f"{self.bytes:g} bytes per label"
        return f"{'a mean' if self.figure == 'mean' else 'a p99.9'} KL of {self.nats:g} nats"
