"""Made-up images with a class at each pixel, and networks that know them."""

import numpy as np
import torch
from torch import nn

from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.models import Classifier, ClassifierSpec, ImageClassifier
from pipeline.models.classifier import Outputs
from pipeline.signals import signal_named

GRID = signal_named("grid")
NUM_CLASSES = 3  # dark ground, a grey and a bright square
LEVELS = (20, 110, 200)


def make_maps(count: int = 16, *, size: int = 8, seed: int = 0) -> SplitInMemory:
    """Makes images of a dark ground with two squares on it; 1 pixel of 20 is unknown."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((count, size, size), np.int16)
    for each in maps:
        for number in (1, 2):
            top, left = rng.integers(0, size // 2, 2)
            each[top : top + size // 2, left : left + size // 2] = number
    images = np.array(LEVELS)[maps] + rng.integers(-20, 21, maps.shape)
    pixels = images[:, None].astype(np.uint8)
    maps[rng.random(maps.shape) < 0.05] = -1
    return SplitInMemory(torch.from_numpy(pixels), torch.from_numpy(maps), sample_ids(pixels))


class ByBrightness(nn.Module):
    """A network that takes a pixel for the class whose level is nearest."""

    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(LEVELS) / 255, requires_grad=False)
        self.sharpness = sharpness

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -self.sharpness * 100 * (images - self.levels.view(1, -1, 1, 1)) ** 2


def by_brightness(sharpness: float = 1.0) -> Classifier:
    network = ByBrightness(sharpness)
    return ImageClassifier(network, [0.0], [1.0], network_channels=1, outputs=Outputs(signal=GRID)).eval()


def unet(seed: int = 0, up: str = "bilinear") -> Classifier:
    """Returns a U-Net without training."""
    settings = {"widths": [4, 8], "depth": 1, "up": up}
    spec = ClassifierSpec(
        "unet_small", settings, num_classes=NUM_CLASSES, channels=1, mean=[0.4], std=[0.3], signal="grid"
    )
    return spec.build(seed)
