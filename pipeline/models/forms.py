"""The form of a network's outputs: a row for each image, or a map of rows at its pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float

from pipeline.core.errors import ModelError
from pipeline.models.families import AT_PIXELS, FAMILIES
from pipeline.signals import Signal

_SHAPES = {True: "[batch, classes, height, width]", False: "[batch, classes]"}
_ELSEWHERE = {True: "torchvision/fcn_resnet50 and the like", False: "most of torchvision, timm"}


def has_maps(signal: Signal) -> bool:
    """Returns whether outputs of a signal are maps."""
    return signal.kind == "grid"


def check_form(outputs: Float[torch.Tensor, "batch ..."], signal: Signal, name: str) -> None:
    """Raises ModelError where outputs are rows and should be maps, or the other way round."""
    maps = has_maps(signal)
    if outputs.ndim != (4 if maps else 2):
        found = f"gives outputs of shape {list(outputs.shape)}, and the data has a class for each {_thing(maps)}"
        fitting = [family for family in FAMILIES if (family in AT_PIXELS) == maps]
        fix = f"take {', '.join(fitting)}, {_ELSEWHERE[maps]}, or a file of your own"
        raise ModelError(f"model {name!r}", found, expected=_SHAPES[maps], fix=fix)


def _thing(maps: bool) -> str:
    return "pixel" if maps else "image"


def at_pixels(
    outputs: Float[torch.Tensor, "batch outputs rows columns"], seen: Sequence[int], size: Sequence[int], name: str
) -> Float[torch.Tensor, "batch outputs height width"]:
    """Returns outputs at each pixel of an image, by bilinear interpolation.

    Args:
        seen: The height and width of what the network was given.
        size: Those of the image.

    Raises:
        ModelError: The outputs are no whole number of times smaller than what the network was
            given.
    """
    found = list(outputs.shape[2:])
    if 0 in found or any(whole % part for whole, part in zip(seen, found, strict=True)):
        told = f"gives outputs at {found[0]} x {found[1]} positions for an image of {seen[0]} x {seen[1]}"
        expected = "as many, or fewer by a whole factor: what is cropped or padded lies elsewhere"
        raise ModelError(
            f"model {name!r}", told, expected=expected, fix="pad the convolutions, or interpolate to x.shape[2:]"
        )
    if found == list(size):
        return outputs
    shrinks = found[0] > size[0] or found[1] > size[1]
    return F.interpolate(outputs, (size[0], size[1]), mode="bilinear", align_corners=False, antialias=shrinks)
