"""What every source gives."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from pipeline.errors import SourceError


@dataclass(frozen=True)
class RawDataset:
    """Images and hard labels as they came: a training set (from which validation is taken) and a test set."""

    class_names: tuple[str, ...]
    train_images: UInt8[np.ndarray, "train channels height width"]
    train_hard_labels: Int64[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test channels height width"]
    test_hard_labels: Int64[np.ndarray, " test"]

    def check(self, where: str) -> None:
        """Raises SourceError unless images, labels and classes fit together."""
        for split, images, labels in (
            ("train", self.train_images, self.train_hard_labels),
            ("test", self.test_images, self.test_hard_labels),
        ):
            place = f"source {where!r}, {split}"
            if len(images) != len(labels) or len(images) == 0:
                raise SourceError(
                    place, f"{len(images)} images and {len(labels)} hard labels", expected="as many of both"
                )
            if images.shape[1:] != self.train_images.shape[1:]:
                raise SourceError(place, f"images of {images.shape[1:]}", expected=f"{self.train_images.shape[1:]}")
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                found = f"hard labels from {labels.min()} to {labels.max()}"
                raise SourceError(place, found, expected=f"0 to {len(self.class_names) - 1}")
