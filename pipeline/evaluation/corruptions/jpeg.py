"""JPEG files of low quality."""

from typing import ClassVar, final

import numpy as np
import torch

from pipeline.data.decoding import decode, to_jpeg
from pipeline.evaluation.corruptions.base import Batch, Corruption, Ids


@final
class Jpeg(Corruption):
    """A JPEG file of the image, written and read again."""

    kind: ClassVar[str] = "jpeg"
    #: The quality of the file, 1 to 100.
    strengths: ClassVar = (80, 65, 58, 50, 40)

    def _change(self, images: Batch, sample_ids: Ids, strength: float, seed: int) -> Batch:
        channels, height, width = images.shape[1:]
        files = (to_jpeg(image, max(height, width), int(strength)) for image in images.numpy())
        return torch.from_numpy(np.stack([decode(file, 1 if channels == 1 else 3) for file in files]))
