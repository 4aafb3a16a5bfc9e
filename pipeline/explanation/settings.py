"""The section `explain` of params.yaml."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.models.devices import DeviceName


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Explain:
    """How many samples of each kind are shown, and how the maps of what networks look at are made.

    `num_views` is that of a training sample, at most. The patch that covers a part of the image is `patch_share` as high and
    wide as that, and steps over it in about `patch_steps` steps in each direction.
    """

    num_suspects: NonNegativeInt
    num_disagreed: NonNegativeInt
    num_attributed: NonNegativeInt
    num_views: NonNegativeInt
    patch_share: Annotated[float, Field(gt=0, le=1)]
    patch_steps: PositiveInt
    batch_size: PositiveInt
    device: DeviceName

    def window(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the patch in pixels."""
        return _share(height, self.patch_share), _share(width, self.patch_share)

    def strides(self, height: int, width: int) -> tuple[int, int]:
        """Of the patch's steps, in pixels: never so long that a pixel is left out."""
        window = self.window(height, width)
        return min(window[0], _share(height, 1 / self.patch_steps)), min(window[1], _share(width, 1 / self.patch_steps))


def _share(side_px: int, share: float) -> int:
    return max(1, round(side_px * share))
