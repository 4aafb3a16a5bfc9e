"""Augmented views: a pure function of (seed, sample id, view number).

Views: (images, sample ids, view number) -> pixels, as a pure function of the ViewSpec; one file per operation.

Nothing about a view is stored: the student replays what the teacher saw from the same numbers. Pixels stay whole
8-bit numbers after every operation, and what is drawn becomes whole numbers before a pixel is touched, so a view is the
same bits on every device, in any batch and with every version of every library.

    operations/    Room
    plan.py        data set x views -> what is in a batch, and how it is rendered
    spec.py        The settings of all views of a store, what is drawn for each, and how it becomes pixels
    thumbnails.py  What a store keeps of its canaries
"""

from pipeline.views.operations.base import ImageOperation, Operation
from pipeline.views.operations.colour import Brightness, Contrast, Saturation
from pipeline.views.operations.erasing import Erasing
from pipeline.views.operations.flips import FlipHorizontal, FlipVertical
from pipeline.views.operations.mixing import CutMix, Mixing, Mixup
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.operations.resized_crop import ResizedCrop
from pipeline.views.spec import OPERATIONS, ViewSpec, own_shares, render
from pipeline.views.thumbnails import thumbnail_shape, thumbnails

__all__ = [
    "OPERATIONS",
    "Brightness",
    "Contrast",
    "CutMix",
    "Erasing",
    "FlipHorizontal",
    "FlipVertical",
    "ImageOperation",
    "Mixing",
    "Mixup",
    "Operation",
    "PadCrop",
    "ResizedCrop",
    "Saturation",
    "ViewSpec",
    "own_shares",
    "render",
    "thumbnail_shape",
    "thumbnails",
]
