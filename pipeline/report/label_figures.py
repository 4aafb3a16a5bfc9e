"""Figures of the commands about labels: the ladder of encodings, and the views of one sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pipeline.report.drawing import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, save_png, shortened

Rows = dict[str, dict[str, Any]]

_ENCODING_LOOKS = {
    "dense_float16": (INK, "D", "dense_float16"),
    "dense_uint8": (BLUE, "s", "dense_uint8: levels"),
    "topk prior": (GREEN, "o", "topk, tail: prior: k/levels"),
    "topk uniform": (ORANGE, "^", "topk, tail: uniform: k/levels"),
    "anchored": (BLUE, "P", "anchored: classes/least gain/views"),
    "sampled": (PURPLE, "v", "sampled: draws"),
}
_LABEL_GAP = 0.018  # of the width, less than which two labels of a kind would touch
# Rotation, shift in points, horizontal and vertical alignment.
_FRONT_LABEL = (45, (0, -6), "right", "top")
_UPPER_LABEL = (90, (0, 6), "center", "bottom")
_UPPER_LABELS = {"topk uniform": (30, (5, 2), "left", "bottom")}
_OTHER_COLOUR = "#bbbbbb"
_MOST_VIEWS = 16
_LEAST_NATS = 1e-9  # a KL below is drawn there


def draw_ladder(rows: Rows, chosen: str | None, num_measured: int, path: Path) -> None:
    """Draws mean KL over bytes per label.

    Each encoding is a point, at the temperature where it is worst; a line joins the best ones, for
    each temperature.
    """
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    front = [row for row in rows.values() if row["on_front"]]
    x = [row["label_bytes"] for row in front]
    temperatures = list(front[0]["kl_nats"])
    for shade, temperature in zip(np.linspace(0.35, 0.75, len(temperatures)), temperatures, strict=True):
        y = [max(row["kl_nats"][temperature]["mean"], _LEAST_NATS) for row in front]
        axes.plot(x, y, color=str(shade), linewidth=1, zorder=1, label=f"the best ones, at temperature {temperature}")
    near = np.ptp(np.log([row["label_bytes"] for row in rows.values()])) * _LABEL_GAP
    drawn: dict[str, list[float]] = {}
    for name, row in rows.items():
        kind = f"{row['encoding']['kind']} {row['encoding'].get('tail', '')}".strip()
        colour, marker, caption = _ENCODING_LOOKS.get(kind, (INK, "X", kind))
        place = (row["label_bytes"], max(max(kl["mean"] for kl in row["kl_nats"].values()), _LEAST_NATS))
        only = "" if len(row["kl_nats"]) == len(temperatures) else f" (at temperature {', '.join(row['kl_nats'])} only)"
        label = None if kind in drawn else caption + only
        labelled = drawn.setdefault(kind, [])
        edge = "black" if row["on_front"] else "none"
        axes.scatter(*place, s=42, color=colour, marker=marker, edgecolors=edge, linewidths=0.8, zorder=3, label=label)
        if not row["on_front"] and any(abs(np.log(place[0] / size)) < near for size in labelled):
            continue
        labelled.append(place[0])
        short = name.removesuffix(" uniform").rpartition(" ")[2].removeprefix("dense_uint8/")
        # Labels of the best ones go below, where no other point is.
        turn, shift, across, along = _FRONT_LABEL if row["on_front"] else _UPPER_LABELS.get(kind, _UPPER_LABEL)
        axes.annotate(
            short,
            place,
            xytext=shift,
            textcoords="offset points",
            fontsize=8,
            rotation=turn,
            ha=across,
            va=along,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
    if chosen:
        row = rows[chosen]
        place = (row["label_bytes"], max(row["worst_kl_nats"], _LEAST_NATS))
        label = f"chosen: {chosen}"
        axes.scatter(*place, s=240, facecolors="none", edgecolors=VERMILION, linewidths=2, zorder=4, label=label)
    axes.set(xscale="log", yscale="log", xlabel="bytes per label on disk (tables included)")
    axes.set_ylabel("mean KL(teacher, label) in nats, where it is worst")
    axes.set_title(f"{num_measured:,} labels measured", fontsize="medium")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1, y=0.1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower left")
    save_png(figure, path)


@dataclass(frozen=True)
class SampleViews:
    """The views of one sample, and the teacher's probabilities of each.

    Attributes:
        images: uint8 [views, channels, height, width].
        probabilities: [views, classes].
    """

    title: str
    images: np.ndarray
    probabilities: np.ndarray
    view_names: Sequence[str]
    class_names: Sequence[str]
    hard_classes: Sequence[int]


def draw_sample(sample: SampleViews, top: int, path: Path) -> None:
    """Draws up to 16 views of a sample, each beside its `top` likeliest classes.

    The bar of the hard label has another colour.
    """
    images, probabilities, class_names = sample.images, sample.probabilities, sample.class_names
    count = min(len(images), _MOST_VIEWS)
    columns = min(2, count)
    lines = -(-count // columns)
    top = min(top, len(class_names))
    height = max(1.9, 0.26 * top + 0.6)
    figure = plt.figure(figsize=(5.6 * columns, height * lines + 0.8), layout="constrained")
    figure.suptitle(sample.title, fontsize="medium")
    panels = figure.subplots(
        lines, 2 * columns, squeeze=False, gridspec_kw={"width_ratios": [1, 1.6] * columns}
    ).reshape(-1, 2)
    for number, (picture, bars) in enumerate(panels):
        picture.axis("off")
        if number >= count:
            bars.axis("off")
            continue
        picture.imshow(_pixels(images[number]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        picture.set_title(sample.view_names[number], fontsize="small")
        chosen = np.argsort(-probabilities[number], kind="stable")[:top]
        shares = 100 * probabilities[number][chosen]
        colours = [BLUE if n in sample.hard_classes else _OTHER_COLOUR for n in chosen]
        bars.barh(range(top), shares, color=colours)
        for place, share in enumerate(shares):
            bars.annotate(
                f"{share:.1f}%", (share, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
            )
        bars.set_yticks(range(top), [shortened(class_names[n]) for n in chosen], fontsize=8)
        bars.set(xlim=(0, 122), xticks=[], ylim=(top - 0.4, -0.6))
        bars.spines[["top", "right", "bottom"]].set_visible(False)
        bars.tick_params(axis="y", length=0)
    save_png(figure, path)


def _pixels(image: np.ndarray) -> np.ndarray:
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]
