"""The base of every operation: settings, random words, whole numbers, the numbers of samples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Int16, Int64, Integer, UInt8
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from pipeline.core.errors import ConfigError
from pipeline.data.input_kinds import InputKindName

UNIT = 1 << 16  # shares and factors are whole numbers of 1/65536

#: The class of each pixel of some images, -1 where it is unknown.
Maps = Integer[torch.Tensor, "batch height width"]

Probability = Annotated[float, Field(ge=0, le=1)]


def ascending(span: tuple[float, float]) -> tuple[float, float]:
    """Returns a span; raises PydanticCustomError where it is empty."""
    if span[0] > span[1]:
        raise PydanticCustomError("descending", "[low, high]")
    return span


Positive = Annotated[float, Field(gt=0, ge=0.001, le=1000)]
#: The least and the greatest value that is drawn.
Span = Annotated[tuple[Positive, Positive], AfterValidator(ascending)]
_Share = Annotated[float, Field(gt=0, le=1)]
ShareSpan = Annotated[tuple[_Share, _Share], AfterValidator(ascending)]


class Operation(ABC):
    """A step of a view.

    Subclasses are frozen dataclasses. Their attributes are the settings in `params.yaml` and in the
    manifest, `kind` first.
    """

    kind: str
    #: The kind of samples that it is for.
    input_kind: ClassVar[InputKindName] = "image"
    #: How many of its 8 random words it uses, from the first on.
    num_words: ClassVar[int]

    @property
    @abstractmethod
    def still(self) -> tuple[int, ...]:
        """The draws that leave an image as it is: one number per column."""

    @abstractmethod
    def draw(self, words: Int64[torch.Tensor, "words samples"]) -> Int64[torch.Tensor, "samples columns"]:
        """Returns whole numbers for each sample from its random words in [0, 2^32), on the CPU."""

    def check(self, input_shape: Sequence[int], where: str) -> None:  # noqa: B027 (most fit any shape)
        """Raises ConfigError where it can't be applied to samples of this shape.

        The shape of images is channels, height, width.
        """


class SampleOperation(Operation):
    """An operation on one sample."""

    @abstractmethod
    def apply(
        self, inputs: Integer[torch.Tensor, "batch ..."], draws: Int64[torch.Tensor, "batch columns"]
    ) -> Integer[torch.Tensor, "batch ..."]:
        """Returns the changed samples, of the same shape and type; `draws` are on their device."""


class ImageOperation(SampleOperation):
    """An operation on one image, and on the map of classes of its pixels where it has one."""

    @abstractmethod
    def apply(
        self,
        images: UInt8[torch.Tensor, "batch channels height width"],
        draws: Int64[torch.Tensor, "batch columns"],
    ) -> UInt8[torch.Tensor, "batch channels height width"]:
        """Returns the changed images; `draws` are on their device."""

    @abstractmethod
    def apply_to_maps(self, maps: Maps, draws: Int64[torch.Tensor, "batch columns"]) -> Maps:
        """Returns the class of each pixel of the changed images, -1 where it is of no old pixel."""


def happens(words: Int64[torch.Tensor, "*each"], probability: float) -> Bool[torch.Tensor, "*each"]:
    """Returns True for each word with this probability (to 2^-32)."""
    return words < round(probability * 2**32)


def blend(
    images: UInt8[torch.Tensor, "batch channels height width"],
    others: Integer[torch.Tensor, "..."],
    shares: Int64[torch.Tensor, " batch"],
) -> UInt8[torch.Tensor, "batch channels height width"]:
    """Returns images blended with others: share x image + (1 - share) x other.

    The result is rounded to the nearest level, halves up, and cut to 0..255. A share above 1 goes
    beyond the image, away from the other.

    Args:
        others: Levels 0 to 255 that broadcast against the images.
        shares: In units of 1/65536, up to 2: 32 bits hold every product.
    """
    own = shares.to(torch.int32)[:, None, None, None]
    levels = images.to(torch.int32).mul_(own)
    levels += others.to(torch.int32) * (UNIT - own) + UNIT // 2
    return levels.bitwise_right_shift_(16).clamp_(0, 255).to(torch.uint8)


def to_samples(values: Int64[torch.Tensor, "batch length"]) -> Int16[torch.Tensor, "batch length"]:
    """Returns sounds of 16 bits from values in 1/65536 of theirs, which are overwritten: rounded,
    halves up, and cut to the range of 16 bits.
    """
    return values.add_(UNIT // 2).bitwise_right_shift_(16).clamp_(-(1 << 15), (1 << 15) - 1).to(torch.int16)


def need_room(most_samples: int, input_shape: Sequence[int], where: str) -> None:
    """Raises ConfigError where a stretch may be as long as the whole sound."""
    if most_samples >= input_shape[0]:
        found, expected = f"{most_samples:,}", f"less than a sound's {input_shape[0]:,} samples"
        raise ConfigError(f"{where}.most_samples", found, expected=expected)
