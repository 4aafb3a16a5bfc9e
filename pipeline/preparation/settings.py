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
    """Where images come from, and what they are made into; `val_fraction` and `test_fraction` are held out where the source
    has no such split."""

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
        """Raises ConfigError where keys contradict each other."""
        if self.longest_px and self.storage == "pixels":
            found = f"{self.longest_px}, and storage: pixels"
            raise ConfigError(f"{where}.longest_px", found, expected="null, or storage: encoded")

    @property
    def form(self) -> ImageForm:
        """What every image is made into."""
        return ImageForm(self.channels, self.image_px, self.storage, self.longest_px)
