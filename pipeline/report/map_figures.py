"""A figure of one sample of a store: views beside their maps of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from pipeline.report.drawing import save_png, shortened

_MOST_VIEWS = 8
_MOST_NAMES = 24  # of classes, in the legend


@dataclass(frozen=True)
class SampleMaps:
    """The views of one sample, and their maps in colours.

    Attributes:
        images: uint8 [views, channels, height, width].
        colours: Of the classes that are in any of the maps, by name.
    """

    title: str
    images: UInt8[np.ndarray, "views channels height width"]
    hard: UInt8[np.ndarray, "views 3 height width"]
    teacher: UInt8[np.ndarray, "views 3 height width"]
    view_names: Sequence[str]
    colours: Mapping[str, UInt8[np.ndarray, " 3"]]


def draw_maps(sample: SampleMaps, path: Path) -> None:
    """Draws up to 8 views of a sample, each beside its hard label and the teacher's most likely
    classes.
    """
    count = min(len(sample.images), _MOST_VIEWS)
    figure = plt.figure(figsize=(6.6, 2.2 * count + 1.1), layout="constrained")
    figure.suptitle(sample.title, fontsize="medium")
    panels = figure.subplots(count, 3, squeeze=False)
    for number, row in enumerate(panels):
        shown = {sample.view_names[number]: sample.images[number]}
        shown |= {"hard label": sample.hard[number], "teacher": sample.teacher[number]}
        for panel, (name, picture) in zip(row, shown.items(), strict=True):
            pixels = picture if len(picture) == 3 else picture[:1].repeat(3, axis=0)
            panel.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
            panel.set_title(name, fontsize="small")
            panel.axis("off")
    named = [*sample.colours.items()][:_MOST_NAMES]
    handles = [
        Patch(facecolor=tuple(colour / 255), edgecolor="#888888", label=shortened(name)) for name, colour in named
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    save_png(figure, path)
