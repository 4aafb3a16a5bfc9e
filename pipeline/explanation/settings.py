"""The section `explain` of params.yaml."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import BatchSize
from pipeline.core.config import STRICT
from pipeline.models.devices import DeviceName

_Shown = Annotated[int, Field(ge=0, le=10**6)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Explain:
    """The number of samples of each kind that are shown, and the patch that makes the maps.

    Attributes:
        num_views: The stored views of a training sample that are shown, at most.
        patch_share: Height and width of the patch as a share of the image's.
        patch_steps: About the number of the patch's steps in each direction.
    """

    num_suspects: _Shown
    num_disagreed: _Shown
    num_attributed: _Shown
    num_views: _Shown
    patch_share: Annotated[float, Field(gt=0, le=1)]
    patch_steps: Annotated[int, Field(gt=0, le=10**4)]
    batch_size: BatchSize
    device: DeviceName

    def window(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the patch in pixels."""
        return _share(height, self.patch_share), _share(width, self.patch_share)

    def strides(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the patch's steps in pixels: never so long that a pixel is
        left out.
        """
        window = self.window(height, width)
        return min(window[0], _share(height, 1 / self.patch_steps)), min(window[1], _share(width, 1 / self.patch_steps))


def _share(side_px: int, share: float) -> int:
    return max(1, round(side_px * share))
