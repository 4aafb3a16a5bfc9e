"""A row of the table `encodings` that names a budget: the dump chooses the encoding for it."""

from dataclasses import asdict
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.core.config import STRICT


@dataclass(frozen=True, config=STRICT)
class Budget:
    """The most that a label may take, or the most that it may lose: one of the two.

    Attributes:
        bytes: Bytes on disk per label, with its share of the encoding's tables.
        kl_nats: Mean KL in nats to the teacher, at every declared temperature.
    """

    bytes: Annotated[float, Field(gt=0, le=10**9)] | None = None
    kl_nats: Annotated[float, Field(gt=0, le=10**6)] | None = None

    kind: ClassVar[str] = "auto"

    @model_validator(mode="after")
    def _has_one_limit(self) -> "Budget":
        if (self.bytes is None) == (self.kl_nats is None):
            raise PydanticCustomError("budget", "one of `bytes` and `kl_nats`")
        return self

    @property
    def limit(self) -> dict[str, float]:
        """The limit by its unit."""
        return {unit: value for unit, value in asdict(self).items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Returns the row that makes this budget again."""
        return {"kind": self.kind, **self.limit}

    def __str__(self) -> str:
        return f"a mean KL of {self.kl_nats:g} nats" if self.bytes is None else f"{self.bytes:g} bytes per label"
