"""Low contrast, as in fog."""

from typing import ClassVar, final

from pipeline.evaluation.corruptions.base import Batch, Corruption, Ids, to_pixels


@final
class Contrast(Corruption):
    """A move of every pixel towards its channel's mean."""

    kind: ClassVar[str] = "contrast"
    #: The share of the contrast that is left.
    strengths: ClassVar = (0.75, 0.5, 0.4, 0.3, 0.15)

    def _change(self, images: Batch, sample_ids: Ids, strength: float, seed: int) -> Batch:
        mean = images.double().mean(dim=(2, 3), keepdim=True)
        return to_pixels((images - mean) * strength + mean)
