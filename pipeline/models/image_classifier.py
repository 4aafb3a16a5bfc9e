"""A network that takes images: their size, colour and normalisation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.models.classifier import PLAIN, Classifier, Outputs


class ImageClassifier(Classifier):
    """A network that takes pixels in 0 to 255.

    It carries its own normalisation and size of images, so the same views serve networks that want
    different ones.

    Args:
        mean: Of each channel, or one for all, in units of 255 pixel levels; `std` alike.
        size_px: Height and width that the network wants; None: those of the images.
    """

    input_name = "pixels"
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: list[float],
        std: list[float],
        *,
        network_channels: int,
        size_px: Sequence[int] | None = None,
        outputs: Outputs = PLAIN,
    ) -> None:
        super().__init__(network, outputs)
        self.register_buffer("pixel_mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("pixel_std", torch.tensor(std).view(1, -1, 1, 1) * 255)
        self._network_channels = network_channels
        self._size_px = None if size_px is None else (size_px[0], size_px[1])
        if size_px is not None:
            self.register_buffer("input_px", torch.tensor(size_px))

    def to_network(
        self, inputs: UInt8[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch taken rows columns"]:
        images = inputs.to(torch.float32, memory_format=torch.channels_last)
        if self._size_px is not None:
            images = F.interpolate(images, self._size_px, mode="bilinear", antialias=True)
        images = (images - self.pixel_mean) / self.pixel_std
        if images.shape[1] == 1 and self._network_channels > 1:
            images = images.expand(-1, self._network_channels, -1, -1).contiguous(memory_format=torch.channels_last)
        if images.shape[1] != self._network_channels:
            found = f"takes images of {self._network_channels} channels, and these have {images.shape[1]}"
            raise ModelError(
                f"model {self.name!r}", found, fix="prepare: {channels: ...} makes images grey or coloured"
            )
        return images
