"""The entries of a store's manifest, by their types and bounds."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass as typed

from pipeline.core.config import STRICT
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName

Temperature = Annotated[float, Field(ge=1e-9, le=1e9)]
Count = Annotated[int, Field(ge=1, le=1 << 40)]
Side = Annotated[int, Field(ge=1, le=1 << 15)]
Share = Annotated[float, Field(ge=0, le=1)]


@typed(frozen=True, config=STRICT)
class DistanceFigures:
    """The distances of the labels from the teacher, at one temperature or of one kind."""

    mean: NonNegativeFloat
    p999: NonNegativeFloat
    max: NonNegativeFloat


@typed(frozen=True, config=STRICT)
class FidelityFigures:
    """The entry `fidelity`: how close the labels were to the teacher when they were written."""

    num_labels: NonNegativeInt
    top1_agreement: Share
    kl_nats: dict[str, DistanceFigures]


@typed(frozen=True, config=STRICT)
class VectorFidelityFigures:
    """The entry `fidelity` of embeddings."""

    num_labels: NonNegativeInt
    same_direction: Share
    relative_error: DistanceFigures
    cosine_distance: DistanceFigures


@typed(frozen=True, config=STRICT | {"extra": "ignore"})
class StatedTeacher:
    """The entry `teacher`; a mean of several has `mean_of` alone."""

    fingerprint: str | None = None
    model: str | None = None
    val_accuracy: Share | None = None
    val_map: Share | None = None
    val_miou: Share | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    mean_of: "list[PartOfMean] | None" = None
    note: Annotated[str, Field(max_length=500)] | None = None


@typed(frozen=True, config=STRICT)
class PartOfMean:
    """A teacher of a mean, with its share."""

    weight: Share
    teacher: StatedTeacher | None


@typed(frozen=True, config=STRICT)
class Samples:
    """The entry `input`, of a store whose samples are no images.

    Attributes:
        detail: What decides what their numbers mean: the rate of sounds in Hz, the digest of the
            columns of rows.
    """

    kind: InputKindName
    detail: Annotated[str, Field(max_length=500)] = ""

    def __str__(self) -> str:
        return f"{INPUT_KINDS[self.kind].things}{f' ({self.detail})' if self.detail else ''}"
