"""Images, shown as they are."""

from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from jaxtyping import Integer, UInt8

from pipeline.data.dataset import ImageDataset
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown.base import Attribution, Network, PictureShower, Sample

if TYPE_CHECKING:
    from pipeline.explanation.attribution import Patch


class ImageShower(PictureShower):
    """A way to show images, and maps of what counts in them: a patch of the data's mean slides over
    each.

    Args:
        shape: Channels, height, width.
        mean: The data's mean by channel, 0 to 1, which is the colour of the patch.
    """

    kind = "image"

    def __init__(self, shape: tuple[int, ...], mean: list[float]) -> None:
        self._shape = shape
        self._colour = (torch.tensor(mean) * 255).round().to(torch.uint8).expand(shape[0])

    @classmethod
    def of(cls, dataset: ImageDataset) -> Self:
        return cls(dataset.manifest.input_shape, dataset.manifest.mean)

    @property
    def picture_px(self) -> tuple[int, int]:
        return self._shape[1], self._shape[2]

    def picture(self, sample: Sample) -> UInt8[np.ndarray, "channels height width"]:
        pixels: np.ndarray = sample.numpy()
        return pixels

    def method(self, settings: Explain) -> str:
        return f"occlusion by a {self._patch(settings)}"

    def attribute(
        self, network: Network, inputs: Integer[torch.Tensor, "samples ..."], settings: Explain
    ) -> Attribution:
        from pipeline.explanation.attribution import attribute  # with captum, which showing does without

        patch = self._patch(settings)
        return attribute(network.values_of, inputs, network.classes, network.device, patch, settings.batch_size)

    def _patch(self, settings: Explain) -> "Patch":
        from pipeline.explanation.attribution import Patch

        return Patch(settings.window(*self.picture_px), settings.strides(*self.picture_px), self._colour)
