"""The parts of an image that a network's prediction rests on: maps by occlusion. The one file that
imports captum.

Occlusion and no gradient, because a classifier takes whole 8-bit pixels and some have no gradients
at all (ONNX, int8), and because a covered part is the same to every network, so that maps can be
compared. A patch slides over the image, and each place of it is another image to classify: 144 of
them for a map of 28 x 28 pixels in steps of 2."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import Occlusion
from jaxtyping import Float, Int64, UInt8
from scipy.stats import rankdata


@dataclass(frozen=True)
class Patch:
    """A patch that covers a part of an image.

    Attributes:
        window: Height and width in pixels.
        strides: Height and width of its steps in pixels; the last step ends at the border.
        colour: The data's mean is as little of a hint as there is.
    """

    window: tuple[int, int]
    strides: tuple[int, int]
    colour: UInt8[torch.Tensor, " channels"]

    def __str__(self) -> str:
        size, steps = (f"{height} x {width}" for height, width in (self.window, self.strides))
        return f"patch of {size} pixels in steps of {steps}"


@torch.no_grad()
def attribute(
    values_of: Callable[[torch.Tensor], torch.Tensor],
    images: UInt8[torch.Tensor, "batch channels height width"],
    classes: Int64[torch.Tensor, " batch"],
    device: torch.device,
    patch: Patch,
    batch_size: int,
) -> Float[np.ndarray, "batch height width"]:
    """Returns the nats by which the log-probability of a class (of independent ones, its log-odds)
    falls where a pixel is covered.

    It is the mean over the patches that cover the pixel: positive where it speaks for the class,
    negative where against.

    Args:
        values_of: Log-probabilities or log-odds of images, [images, classes], in float64.
        classes: The class to ask for, of each image: the same for all networks whose maps are to be
            compared.
        batch_size: Images that the network takes at a time, at most.
    """
    channels, height, width = images.shape[1:]
    explain = Occlusion(lambda pixels, asked: values_of(pixels).gather(1, asked[:, None])[:, 0])
    maps = np.zeros((len(images), height, width))
    # One image at a time, with as many places of the patch as a batch takes: captum then never
    # holds more.
    for number in range(len(images)):
        drops = explain.attribute(
            images[number : number + 1].to(device),
            sliding_window_shapes=(channels, *patch.window),
            strides=(channels, *patch.strides),
            baselines=patch.colour.to(device).view(1, channels, 1, 1).expand(1, channels, height, width),
            additional_forward_args=(classes[number : number + 1].to(device),),
            perturbations_per_eval=batch_size,
        )
        maps[number] = drops[0, 0].cpu().numpy()
    return maps


def map_agreement(
    maps: Float[np.ndarray, "samples ..."], others: Float[np.ndarray, "samples ..."]
) -> Float[np.ndarray, " samples"]:
    """Returns Spearman's rank correlation of two networks' maps, sample by sample, -1 to 1; 0 for
    an even map. Places that are NaN in either map do not count.

    It takes ranks because one network's log-probabilities fall by more nats than another's.
    """
    known = np.isfinite(maps) & np.isfinite(others)
    if not known.all():
        each = zip(maps, others, known, strict=True)
        return np.array([map_agreement(a[k][None], b[k][None])[0] if k.any() else 0.0 for a, b, k in each])
    ranks = [rankdata(each.reshape(len(each), math.prod(each.shape[1:])), axis=1) for each in (maps, others)]
    first, second = (each - each.mean(axis=1, keepdims=True) for each in ranks)
    norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    correlations: np.ndarray = (first * second).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    return correlations
