"""The classes of pixels, counted: what masks show, at a glance."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int16, Int64

from pipeline.data.hard_labels import UNLABELLED

_AT_ONCE = 256  # maps


class PixelShares:
    """A count of the pixels of some images by class.

    Attributes:
        counts: Of each class; the pixels of which nothing is known are the last.
        num_images: The images with a mask.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts: Int64[np.ndarray, " classes_and_unknown"] = np.zeros(num_classes + 1, np.int64)
        self.num_images = 0

    @classmethod
    def of(cls, maps: Int16[np.ndarray, "maps height width"], num_classes: int) -> "PixelShares":
        """Returns those of maps, which may be on disk."""
        shares = cls(num_classes)
        shares.add(maps[start : start + _AT_ONCE] for start in range(0, len(maps), _AT_ONCE))
        return shares

    def add(self, pieces: Iterable[Int16[np.ndarray, "some height width"]]) -> None:
        """Counts some more maps; one of which nothing is known is no image with a mask."""
        for maps in pieces:
            known = maps[(maps != UNLABELLED).any(axis=(1, 2))]
            places = np.where(known == UNLABELLED, len(self.counts) - 1, known)
            self.counts += np.bincount(places.ravel(), minlength=len(self.counts))
            self.num_images += len(known)

    def text(self, number: int) -> str:
        """Returns the share of a class in words; `number` -1: of pixels of which nothing is
        known.
        """
        count = int(self.counts[number])
        return f"{count / max(1, int(self.counts.sum())):.1%} of the pixels" if count else "no pixels"

    def line(self) -> str:
        """Returns a line about all of it."""
        unknown = f"{self.text(-1)} are unknown" if self.counts[-1] else "every pixel is known"
        return f"labels: masks, a class for each pixel; of {self.num_images:,} images with a mask, {unknown}"
