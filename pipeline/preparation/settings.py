"""The section `prepare` of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.data.images import Storage
from pipeline.preparation.make import Channels, ImageForm

Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Prepare:
    """The section: the source, the form of images, and the splits.

    Attributes:
        val_fraction: Held out of the training images when the source has no split `val`.
        test_fraction: The same of `test`.
    """

    source: dict[str, Any]
    image_px: tuple[PositiveInt, PositiveInt] | None
    channels: Channels | None
    storage: Storage
    longest_px: PositiveInt | None
    broken: Literal["refuse", "skip"]
    val_fraction: Fraction
    test_fraction: Fraction
    seed: NonNegativeInt

    def check(self, where: str) -> None:
        """Raises ConfigError when keys contradict each other."""
        if self.longest_px and self.storage == "pixels":
            found = f"{self.longest_px}, and storage: pixels"
            raise ConfigError(f"{where}.longest_px", found, expected="null, or storage: encoded")

    @property
    def form(self) -> ImageForm:
        """The form that every image is made into."""
        return ImageForm(self.channels, self.image_px, self.storage, self.longest_px)
