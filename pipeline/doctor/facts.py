"""The facts about a data set and a machine by which a new project's settings are fitted."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.signal_kinds import SignalKind
from pipeline.doctor.grid_task import whole_sides
from pipeline.doctor.images import Look
from pipeline.doctor.networks import ImageSeconds
from pipeline.training.batches import num_steps

LARGE_PX = 40  # images for which students of depth 1 see too small a part


@dataclass(frozen=True)
class Facts:
    """The facts that decide what fits the data.

    Attributes:
        class_counts: Training images of the smallest and the largest class, without those that are
            held out; None: not counted.
        height: Of the images as they are, in pixels, the median; `width` alike.
        num_unlabelled: Training images without a class, which the teacher does not see.
        signal: The meaning of labels.
        one_size: Whether all images that were looked at have that size.
        free_bytes: On the disk.
    """

    num_train: int
    num_val: int
    num_classes: int
    class_counts: tuple[int, int] | None
    channels: int
    height: int
    width: int
    one_size: bool
    free_bytes: int
    num_unlabelled: int = 0
    signal: SignalKind = "categorical"

    @classmethod
    def of(cls, look: Look, sizes: Sequence[tuple[int, int]], folder: Path) -> "Facts":
        """Returns the facts about a source that was looked at.

        Args:
            sizes: Height and width of some images as they are.
            folder: On the disk that will hold the project.
        """
        counts = [count for count in (look.class_counts or {}).values() if count]
        height, width = (int(side) for side in np.median(np.array(sizes), axis=0))
        return cls(
            num_train=look.data.num_samples["train"],
            num_val=look.data.num_samples["val"],
            num_classes=len(look.data.class_names),
            class_counts=(min(counts), max(counts)) if counts else None,
            channels=look.data.image_shape[0],
            height=height,
            width=width,
            one_size=len(set(sizes)) == 1,
            num_unlabelled=look.data.num_unlabelled,
            signal=look.data.signal,
            free_bytes=shutil.disk_usage(folder).free,
        )

    def num_seen(self, section: str) -> int:
        """Returns the training images that a section's networks see."""
        return self.num_train - (self.num_unlabelled if section == "train_teacher" else 0)

    @property
    def short_px(self) -> int:
        """The shorter side of the images as they are."""
        return min(self.height, self.width)

    def size_at(self, short_px: int) -> tuple[int, int]:
        """Returns height and width with this shorter side: of the images' shape where all share
        one, else square. Networks that give maps need sides of certain multiples.
        """
        scale = short_px / self.short_px
        sides = (self.height * scale, self.width * scale) if self.one_size else (short_px, short_px)
        height, width = (max(1, round(side)) for side in sides)
        return whole_sides((height, width)) if self.signal == "grid" else (height, width)


@dataclass(frozen=True)
class Speeds:
    """The seconds that an image takes on this machine, with images of `area_px` pixels.

    Attributes:
        prepare: To make it ready, whatever its size will be.
        teacher: In training and forward; `teacher_scales`: whether that follows the size of
            the images (a teacher with published weights has a size of its own).
        students: In training and forward, of each row of the table; `deeper` in the depth that
            large images ask for, None where these are none.
    """

    area_px: int
    prepare: float
    teacher: ImageSeconds
    students: Sequence[ImageSeconds]
    teacher_scales: bool = True
    deeper: Sequence[ImageSeconds] | None = None

    def of_students(self, short_px: int) -> Sequence[ImageSeconds]:
        """Returns what students cost that are as deep as images with this shorter side ask for."""
        return self.deeper if self.deeper is not None and short_px > LARGE_PX else self.students


def epochs_for(steps: int, num_train: int, batch_size: int) -> int:
    """Returns the epochs that have at least so many steps."""
    return math.ceil(steps / num_steps(num_train, batch_size))
