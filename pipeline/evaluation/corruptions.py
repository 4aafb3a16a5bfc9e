"""Images made worse in the ways in which cameras and files make them worse: noise, blur, low contrast, JPEG.

A corruption is a pure function of (image, sample id, severity, seed): it does not depend on the batch. The strengths are
those of CIFAR-10-C, which are meant for small images; on photographs its blur and its JPEG are mild. Where CIFAR-10-C
cuts the decimals of a pixel off, they are rounded here.

References:
    Dan Hendrycks, Thomas Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    2019, arXiv 1903.12261, section 4.1, and the strengths in the authors' script that makes CIFAR-10-C.
"""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8, UInt64
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.seeding import derive_seed, philox
from pipeline.data.decoding import decode, to_jpeg

_NOISE_STD = (0.04, 0.06, 0.08, 0.09, 0.10)  # of the range of pixels
_BLUR_PX = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # what is left of it
_JPEG_QUALITY = (80, 65, 58, 50, 40)

_KERNEL_STDS = 4.0  # how far a blur reaches
_VALUES_AT_ONCE = 2**20  # noise takes some 100 bytes a value while it is drawn

Images = UInt8[torch.Tensor, "batch channels height width"]
Ids = UInt64[np.ndarray, " batch"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Robustness:
    """How much worse images are made, and how many of them."""

    severity: Annotated[int, Field(ge=1, le=5)]
    num_images: PositiveInt
    seed: NonNegativeInt


def corrupt(kind: str, images: Images, sample_ids: Ids, severity: int, seed: int) -> Images:
    """The images with one of `CORRUPTIONS` at severity 1 (mild) to 5, a few at a time, so that it takes little memory."""
    change, strength = CORRUPTIONS[kind]
    rows = max(1, _VALUES_AT_ONCE // math.prod(images.shape[1:]))
    key = derive_seed(seed, kind)
    parts = zip(images.split(rows), np.split(sample_ids, range(rows, len(sample_ids), rows)), strict=True)
    return torch.cat([change(part, ids, strength[severity - 1], key) for part, ids in parts])


def _gaussian_noise(images: Images, sample_ids: Ids, std: float, seed: int) -> Images:
    return _pixels(images + 255 * std * normal_draws(seed, sample_ids, images[0].numel()).reshape(images.shape))


def _gaussian_blur(images: Images, sample_ids: Ids, std_px: float, seed: int) -> Images:
    """Along rows and columns in turn, with the border's pixels repeated. Sums of shifted images: a convolution's last bits
    may depend on the batch."""
    radius = int(_KERNEL_STDS * std_px + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / std_px) ** 2)
    weights = (kernel / kernel.sum()).tolist()
    values = images.float()
    for dim in (2, 3):
        size = values.shape[dim]
        places = (torch.arange(size)[:, None] + torch.arange(-radius, radius + 1)).clamp(0, size - 1)
        shifted = (values.index_select(dim, places[:, number]) * weight for number, weight in enumerate(weights))
        values = sum(shifted, torch.zeros(()))
    return _pixels(values)


def _contrast(images: Images, sample_ids: Ids, left: float, seed: int) -> Images:
    """Towards each channel's mean."""
    mean = images.double().mean(dim=(2, 3), keepdim=True)
    return _pixels((images - mean) * left + mean)


def _jpeg(images: Images, sample_ids: Ids, quality: int, seed: int) -> Images:
    channels, height, width = images.shape[1:]
    files = (to_jpeg(image, max(height, width), quality) for image in images.numpy())
    return torch.from_numpy(np.stack([decode(file, 1 if channels == 1 else 3) for file in files]))


#: What makes an image worse, and how strongly at each severity.
CORRUPTIONS: dict[str, tuple[Callable[..., Images], tuple[float, ...]]] = {
    "gaussian_noise": (_gaussian_noise, _NOISE_STD),
    "gaussian_blur": (_gaussian_blur, _BLUR_PX),
    "contrast": (_contrast, _CONTRAST),
    "jpeg": (_jpeg, _JPEG_QUALITY),
}


def normal_draws(seed: int, sample_ids: Ids, count: int) -> Float64[torch.Tensor, "batch {count}"]:
    """So many numbers of the standard normal distribution for each sample.

    References:
        G. E. P. Box, Mervin E. Muller, "A note on the generation of random normal deviates", 1958,
        doi:10.1214/aoms/1177706645.
    """
    ids = torch.from_numpy(sample_ids.view(np.int64))
    fours = -(-count // 4)
    id_word = ids[:, None].expand(-1, fours)
    place = torch.arange(fours).expand(len(ids), -1)
    words = philox(seed, (id_word, id_word >> 32, place, torch.zeros_like(place)))
    uniform = [(word.double() + 0.5) / 2**32 for word in words]
    normal = []
    for first, second in (uniform[:2], uniform[2:]):
        radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
        normal += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(normal, dim=2).flatten(1)[:, :count]


def _pixels(values: Float32[torch.Tensor, "*shape"] | Float64[torch.Tensor, "*shape"]) -> UInt8[torch.Tensor, "*shape"]:
    return values.round().clamp(0, 255).to(torch.uint8)
