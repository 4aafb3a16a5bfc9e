"""The report: figures of `evaluate` -> tables for a terminal and for Markdown, and figures. The one file that draws."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tabulate import tabulate

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

Rows = dict[str, dict[str, Any]]

# Okabe and Ito's colours, which people with any colour vision tell apart; the marker tells the role as well.
_LOOKS = {"teacher": ("#000000", "*", 180), "student": ("#0072B2", "o", 70), "twin": ("#E69F00", "s", 50)}
_ENCODING_LOOKS = {
    "dense_float16": ("#000000", "D", "dense_float16"),
    "dense_uint8": ("#0072B2", "s", "dense_uint8: levels"),
    "topk prior": ("#009E73", "o", "topk, tail: prior: k/levels"),
    "topk uniform": ("#E69F00", "^", "topk, tail: uniform: k/levels"),
    "sampled": ("#CC79A7", "v", "sampled: draws"),
}
_LABEL_GAP = 0.018  # of the width, less than which two labels of a kind would touch
# Rotation, shift in points, horizontal and vertical alignment.
_FRONT_LABEL = (45, (0, -6), "right", "top")
_UPPER_LABEL = (90, (0, 6), "center", "bottom")
_UPPER_LABELS = {"topk uniform": (30, (5, 2), "left", "bottom")}
_HARD_COLOUR, _OTHER_COLOUR = "#0072B2", "#BBBBBB"
_MOST_VIEWS = 16
_LONGEST_NAME = 24
_LEAST_NATS = 1e-9  # a KL below is drawn there


def results_table(rows: Rows, style: str) -> str:
    """Every network in a line; `style` is one of tabulate's (`simple` for a terminal, `github` for Markdown)."""
    header = ["network", "role", "parameters", "mult-adds", "accuracy", "best epoch", "NLL", "ECE"]
    header += ["agreement", "KL to teacher", "train s", "gain (points)"]
    body = [
        [
            name,
            f"twin of {row['twin_of']}" if row["role"] == "twin" else row["role"],
            f"{row['parameters']:,}",
            _millions(row["multiply_adds"]),
            f"{row['accuracy']:.2%}",
            _optional(row.get("accuracy_best"), ".2%"),
            f"{row['nll']:.4f}",
            f"{row['ece']:.4f}",
            _optional(row.get("agreement"), ".2%"),
            _optional(row.get("kl_to_teacher"), ".4f"),
            _optional(row.get("train_seconds"), ".0f"),
            _optional(row.get("gain_points"), "+.2f"),
        ]
        for name, row in rows.items()
    ]
    return str(tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=["left"] * 2 + ["right"] * 10))


def stores_table(stores: Rows, style: str) -> str:
    """Every store in a line: its size, and how far its labels are from the teacher's."""
    temperatures = sorted(
        {t for store in stores.values() for t in (store["fidelity"] or {}).get("kl_nats", {})}, key=float
    )
    header = ["store", "views", "samples", "MB", "bytes/label"]
    header += [f"mean KL at {t} (nats)" for t in temperatures] + ["same top-1"]
    body = []
    for name, store in stores.items():
        fidelity = store["fidelity"]
        cells = [name, store["num_views"], f"{store['num_samples']:,}", f"{store['size_bytes'] / 1e6:.2f}"]
        cells.append(f"{store['label_bytes']:.2f}" if fidelity else "no labels")
        cells += [f"{fidelity['kl_nats'][t]['mean']:.1e}" if fidelity else "" for t in temperatures]
        body.append([*cells, f"{fidelity['top1_agreement']:.3%}" if fidelity else ""])
    return str(tabulate(body, header, tablefmt=style, disable_numparse=True))


def verdicts(rows: Rows) -> list[str]:
    """Per student, in a sentence, whether distillation paid."""
    lines = []
    for name, row in rows.items():
        if "gain_points" not in row:
            continue
        twin, gain = rows[row["twin"]], row["gain_points"]
        verb = "paid" if gain > 0 else "made no difference" if gain == 0 else "did not pay"
        lines.append(
            f"{name} ({row['parameters']:,} parameters): distillation {verb} in this run: {row['accuracy']:.2%} against "
            f"{twin['accuracy']:.2%} of its hard-label twin ({gain:+.2f} points)"
        )
    return lines


def markdown(content: dict[str, Any], verification: dict[str, Any], figures: dict[str, str]) -> str:
    """The whole report; `figures` are captions by file name."""
    rows, stores = content["models"], content["stores"]
    teacher = rows["teacher"]
    calibration = teacher["val"]
    checked = verification["stores"]
    drawn = "\n\n".join(f"![{caption}]({name})\n\n{caption}" for name, caption in figures.items())
    error = (teacher["accuracy"] * (1 - teacher["accuracy"]) / content["num_test"]) ** 0.5
    return f"""# Report

{chr(10).join(f"- {line}" for line in verdicts(rows))}

One run with one seed on {content["num_test"]:,} test images: near {teacher["accuracy"]:.0%}, the standard error of one
accuracy is {100 * error:.2f} points. "Accuracy" is of the last epoch; "best epoch" is of the epoch that did best on the
validation split.

## Networks

{results_table(rows, "github")}

The teacher's calibration temperature, fitted on the validation split, is {calibration["calibration_temperature"]:.3f}:
it takes the NLL there from {calibration["nll"]:.4f} to {calibration["calibrated"]["nll"]:.4f} and the ECE from
{calibration["ece"]:.4f} to {calibration["calibrated"]["ece"]:.4f}.

## Soft-label stores

{stores_table(stores, "github")}

Verified against the teacher: {", ".join(f"{name} ({len(result['faults'])} faults)" for name, result in checked.items())}.

## Figures

{drawn}
"""


def draw_accuracy_against_size(rows: Rows, path: Path) -> None:
    """Test accuracy over parameters: teacher, students, twins; a line joins a student to its twin."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for row in rows.values():
        if "twin" in row:
            twin = rows[row["twin"]]
            axes.plot(
                [row["parameters"]] * 2, [100 * row["accuracy"], 100 * twin["accuracy"]], color="#999999", zorder=1
            )
    for role, (colour, marker, size) in _LOOKS.items():
        chosen = [row for row in rows.values() if row["role"] == role]
        x, y = [row["parameters"] for row in chosen], [100 * row["accuracy"] for row in chosen]
        axes.scatter(x, y, s=size, color=colour, marker=marker, label=role, zorder=2)
    for name, row in rows.items():
        if row["role"] != "twin":
            place = (row["parameters"], 100 * row["accuracy"])
            axes.annotate(name, place, xytext=(8, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="parameters", ylabel="test accuracy (%)")
    axes.margins(x=0.15, y=0.12)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    _save(figure, path)


def draw_training_curves(curves: dict[str, list[dict[str, float]]], rows: Rows, path: Path) -> None:
    """Validation accuracy over epochs, a panel per student with its twin; the teacher's last value as a line."""
    students = [name for name, row in rows.items() if row["role"] == "student"] or ["teacher"]
    size = (3.4 * len(students) + 0.8, 3.6)
    figure, panels = plt.subplots(1, len(students), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, name in zip(panels[0], students, strict=True):
        for shown, role in ((name, "student"), (rows[name].get("twin"), "twin")):
            if shown:
                colour, marker, _ = _LOOKS[role]
                x = [row["epoch"] for row in curves[shown]]
                y = [100 * row["val_accuracy"] for row in curves[shown]]
                axes.plot(x, y, color=colour, marker=marker, markersize=4, label=shown)
        if curves["teacher"]:
            last = 100 * curves["teacher"][-1]["val_accuracy"]
            axes.axhline(last, color="black", linestyle=":", label="teacher, last epoch")
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower right")
    panels[0][0].set_ylabel("validation accuracy (%)")
    _save(figure, path)


def draw_reliability(bins: list[dict[str, str]], rows: Rows, path: Path) -> None:
    """Accuracy over confidence, a panel per network; on the diagonal, confidence is what it claims."""
    names = list(rows)
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(2.6 * columns, 2.6 * lines + 0.3),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axes, name in zip(panels.flat, names, strict=False):
        chosen = [row for row in bins if row["name"] == name]
        x, y = [float(row["confidence"]) for row in chosen], [float(row["accuracy"]) for row in chosen]
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        axes.plot(x, y, color=_LOOKS[rows[name]["role"]][0], marker="o", markersize=3)
        axes.set_title(f"{name} (ECE {rows[name]['ece']:.3f})", fontsize="small")
        axes.grid(alpha=0.3)
    for axes in list(panels.flat)[len(names) :]:
        axes.axis("off")
    figure.supxlabel("confidence")
    figure.supylabel("accuracy")
    _save(figure, path)


def ladder_table(rows: Rows, temperatures: Sequence[float], style: str) -> str:
    """Every encoding that was tried in a line: its size, and how far its labels are from the teacher's."""
    shown = [f"{t:g}" for t in temperatures]
    header = ["encoding", "bytes\nper label", "of them\ntables"]
    header += [f"{kind}\nat {t}" for kind in ("mean KL", "p99.9") for t in shown] + ["same\ntop-1", ""]
    body = []
    for name, row in rows.items():
        cells = [name, f"{row['label_bytes']:.3f}", f"{row['label_bytes'] - row['field_bytes']:.3f}"]
        for kind in ("mean", "p999"):
            cells += [f"{row['kl_nats'][t][kind]:.1e}" if t in row["kl_nats"] else "" for t in shown]
        body.append([*cells, f"{row['top1_agreement']:.2%}", "*" if row["on_front"] else ""])
    align = ["left", *["right"] * (len(header) - 2), "left"]
    return str(tabulate(body, header, tablefmt=style, disable_numparse=True, colalign=align))


def draw_ladder(rows: Rows, chosen: str | None, num_measured: int, path: Path) -> None:
    """Mean KL over bytes per label: a point for each encoding, at the temperature where it is worst, and a line through
    the best ones for each temperature."""
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
        colour, marker, caption = _ENCODING_LOOKS[kind]
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
        axes.scatter(*place, s=240, facecolors="none", edgecolors="#D55E00", linewidths=2, zorder=4, label=label)
    axes.set(xscale="log", yscale="log", xlabel="bytes per label on disk (tables included)")
    axes.set_ylabel("mean KL(teacher, label) in nats, where it is worst")
    axes.set_title(f"{num_measured:,} labels measured", fontsize="medium")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1, y=0.1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower left")
    _save(figure, path)


def draw_sample(
    images: np.ndarray,
    probabilities: np.ndarray,
    view_names: Sequence[str],
    class_names: Sequence[str],
    hard_label: int | None,
    top: int,
    title: str,
    path: Path,
) -> None:
    """Views of one sample, [views, channels, height, width] of 8 bits, each beside its most likely classes; the hard
    label's bars have another colour. Of many views, the first 16."""
    count = min(len(images), _MOST_VIEWS)
    columns = min(2, count)
    lines = -(-count // columns)
    top = min(top, len(class_names))
    height = max(1.9, 0.26 * top + 0.6)
    figure = plt.figure(figsize=(5.6 * columns, height * lines + 0.8), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(
        lines, 2 * columns, squeeze=False, gridspec_kw={"width_ratios": [1, 1.6] * columns}
    ).reshape(-1, 2)
    for number, (picture, bars) in enumerate(panels):
        picture.axis("off")
        if number >= count:
            bars.axis("off")
            continue
        picture.imshow(_pixels(images[number]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        picture.set_title(view_names[number], fontsize="small")
        chosen = np.argsort(-probabilities[number], kind="stable")[:top]
        shares = 100 * probabilities[number][chosen]
        colours = [_HARD_COLOUR if n == hard_label else _OTHER_COLOUR for n in chosen]
        bars.barh(range(top), shares, color=colours)
        for place, share in enumerate(shares):
            bars.annotate(
                f"{share:.1f}%", (share, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
            )
        bars.set_yticks(range(top), [_shortened(class_names[n]) for n in chosen], fontsize=8)
        bars.set(xlim=(0, 122), xticks=[], ylim=(top - 0.4, -0.6))
        bars.spines[["top", "right", "bottom"]].set_visible(False)
        bars.tick_params(axis="y", length=0)
    _save(figure, path)


def _pixels(image: np.ndarray) -> np.ndarray:
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f} M"


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})  # no version in the file: same figures, same bytes
    plt.close(figure)
