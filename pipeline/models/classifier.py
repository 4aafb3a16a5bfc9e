"""A network with all that stands between pixels and the logits of this data's classes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.models.forms import at_pixels, check_form, has_maps
from pipeline.models.output_kinds import OutputKind, as_logits, mark_of
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL


class Outputs(NamedTuple):
    """The meaning of a network's outputs.

    Attributes:
        groups: For each class the outputs that stand for it; None: output and class number are the
            same.
        signal: The meaning of the logits.
    """

    groups: Sequence[Sequence[int]] | None = None
    kind: OutputKind = "logits"
    signal: Signal = CATEGORICAL


_PLAIN = Outputs()
#: What a network that gives several things calls them.
LOGITS, EMBEDDING = "logits", "embedding"
_OF_TORCHVISION = "out"  # the logits of its segmentation networks


class Classifier(nn.Module):
    """A network that takes pixels in 0 to 255 and gives a logit per class of the data, for the
    image or at each of its pixels.

    It carries its own normalisation, size of images and meaning of outputs, so the same views serve
    networks that want different ones. All of these are buffers: they are part of the weights, and
    of their fingerprint.

    Args:
        mean: Of each channel, or one for all, in units of 255 pixel levels; `std` alike.
        size_px: Height and width that the network wants; None: those of the images.

    Attributes:
        name: The network's name, for messages.
        signal: The meaning of its logits.
    """

    name = "of no name"
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    class_outputs: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: list[float],
        std: list[float],
        *,
        network_channels: int,
        size_px: Sequence[int] | None = None,
        outputs: Outputs = _PLAIN,
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("pixel_mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("pixel_std", torch.tensor(std).view(1, -1, 1, 1) * 255)
        self._network_channels = network_channels
        self._size_px = None if size_px is None else (size_px[0], size_px[1])
        self._kind, self._joins, self.signal = outputs.kind, outputs.groups is not None, outputs.signal
        if size_px is not None:
            self.register_buffer("input_px", torch.tensor(size_px))
        if outputs.groups is not None:
            self.register_buffer("class_outputs", group_table(outputs.groups))
        if (mark := mark_of(outputs.kind)) is not None:
            self.register_buffer("output_kind", mark)

    def forward(
        self, pixels: UInt8[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch classes *grid"]:
        return self.to_logits(self.outputs(pixels))

    def outputs(
        self, pixels: UInt8[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch outputs *grid"]:
        """Returns the outputs as the network gives them, of whatever kind; where there is one for
        each pixel, of the image as it came.

        Raises ModelError where they are of another form than the signal's.
        """
        images = pixels.to(torch.float32, memory_format=torch.channels_last)
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
        outputs = self.network(images)
        if isinstance(outputs, Mapping):
            outputs = outputs.get(LOGITS, outputs.get(_OF_TORCHVISION))
        if not isinstance(outputs, torch.Tensor):
            found = f"gives a {type(outputs).__name__}"
            raise ModelError(
                f"model {self.name!r}", found, expected="one tensor of logits per batch, or a dict with `logits`"
            )
        check_form(outputs, self.signal, self.name)
        if has_maps(self.signal):
            return at_pixels(outputs.float(), images.shape[2:], pixels.shape[2:], self.name)
        return outputs.float()

    def to_logits(
        self, outputs: Float[torch.Tensor, "batch outputs *grid"]
    ) -> Float[torch.Tensor, "batch classes *grid"]:
        """Returns the logits of the classes for what the network gave."""
        logits = as_logits(outputs, self._kind)
        return join_outputs(logits, self.class_outputs) if self._joins else logits


def group_table(groups: Sequence[Sequence[int]]) -> Int64[torch.Tensor, "classes most"]:
    """Returns groups of outputs as one table; -1 stands where a group has no more."""
    most = max(len(group) for group in groups)
    return torch.tensor([[*group, *[-1] * (most - len(group))] for group in groups])


def join_outputs(
    logits: Float[torch.Tensor, "batch outputs *grid"], table: Int64[torch.Tensor, "classes most"]
) -> Float[torch.Tensor, "batch classes *grid"]:
    """Returns logits of classes, each of which is several outputs together.

    Probabilities add up, so logits go by log-sum-exp.

    Outputs of no class are left out: what is told apart is the data's classes, given that it is one
    of them.
    """
    empty = (table < 0).reshape(*table.shape, *[1] * (logits.ndim - 2))
    return logits[:, table.clamp(min=0)].masked_fill(empty, -torch.inf).logsumexp(dim=2)
