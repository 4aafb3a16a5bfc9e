"""A blur, as of a lens out of focus."""

from typing import ClassVar, final

import torch

from pipeline.evaluation.corruptions.base import Batch, Corruption, Ids, to_pixels

_KERNEL_STDS = 4.0  # the reach of the blur in standard deviations


@final
class GaussianBlur(Corruption):
    """A Gaussian filter along rows and columns in turn, with the border's pixels repeated."""

    kind: ClassVar[str] = "gaussian_blur"
    #: Standard deviations in pixels.
    strengths: ClassVar = (0.4, 0.6, 0.7, 0.8, 1.0)

    def _change(self, images: Batch, sample_ids: Ids, strength: float, seed: int) -> Batch:
        radius = int(_KERNEL_STDS * strength + 0.5)
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / strength) ** 2)
        weights = (kernel / kernel.sum()).tolist()
        values = images.float()
        for dim in (2, 3):
            size = values.shape[dim]
            places = (torch.arange(size)[:, None] + torch.arange(-radius, radius + 1)).clamp(0, size - 1)
            # A sum of shifted images, because a convolution's last bits may depend on the batch.
            shifted = (values.index_select(dim, places[:, number]) * weight for number, weight in enumerate(weights))
            values = sum(shifted, torch.zeros(()))
        return to_pixels(values)
