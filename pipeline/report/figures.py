"""The charts of the report."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.columns import size, three_digits
from pipeline.report.content import Content, Networks
from pipeline.report.cost_figures import cost_chart
from pipeline.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LOOKS,
    MOST_NAMES,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WIDTH,
    Chart,
    listed,
    of_many,
    shortened,
)
from pipeline.report.marks import Marks
from pipeline.report.tables import export_lines, network_lines
from pipeline.results.evaluation import NetworkRow

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_MARKERS = "os^Dv<"
_Curve = list[tuple[float, float]]  # epochs and headlines
_MOST_LINES = 6  # as many as there are colours
_MOST_CLASSES = 20
_LEAST_IN_A_BIN = 10  # samples or entries; fewer say little of a network's reliability


def charts(content: Content) -> Iterator[Chart]:
    """Yields every chart that this run has figures for."""
    rows = content.networks
    networks = network_lines(rows)
    files = [*networks, *export_lines(content.exports)]
    yield cost_chart("size", "file_bytes", "size of the file", size, files, content)
    yield cost_chart(
        "latency", "p50", content.worded("milliseconds for one {thing}, one thread"), three_digits, files, content
    )
    if any(line["train_seconds"] for line in networks):  # an imported teacher alone took none
        yield cost_chart("training", "train_seconds", "seconds of training", three_digits, networks, content)
    yield _training_chart(content)
    yield _reliability_chart(content)
    if content.evaluation.comparisons:
        yield _class_chart(content)
    if content.evaluation.robustness is not None:
        yield _robustness_chart(content)


def _training_chart(content: Content) -> Chart:
    rows, marks, curves = content.networks, content.marks, _headlines(content)
    words, axis = marks.in_training or marks.words, marks.in_training or marks.axis
    students = [name for name, row in rows.items() if row.role == "student"] or ["teacher"]
    shown = students[:MOST_NAMES]
    last = [f"{name} {curves[name][-1][1]:.1%}" for name in shown if curves[name]]
    return Chart(
        "training_curves",
        f"Validation {words} by epoch, of each student and its twin{of_many(shown, students)}; "
        "dotted: the teacher's last epoch.",
        f"Validation {words} by epoch. After the last one: {listed(last)}",
        partial(_draw_training, curves, rows, shown, axis),
    )


def _headlines(content: Content) -> dict[str, _Curve]:
    """Returns the epochs of each network's training, with the headline on the validation split."""
    key = content.marks.curve
    return {name: [(row["epoch"], row[key]) for row in rows] for name, rows in content.curves.items()}


def _draw_training(curves: dict[str, _Curve], rows: Networks, students: Sequence[str], axis: str) -> Figure:
    figure, panels = _panels(len(students), columns=2, height=1.9)
    for axes, name in zip(panels, students, strict=True):
        for shown, dash in ((name, "-"), (rows[name].twin, "--")):
            if shown:
                role = rows[shown].role
                colour, marker, _ = LOOKS[role]
                x, y = [epoch for epoch, _ in curves[shown]], [100 * value for _, value in curves[shown]]
                axes.plot(x, y, color=colour, linestyle=dash, marker=marker, markersize=3.5, label=role)
        if curves.get("teacher"):
            last = 100 * curves["teacher"][-1][1]
            axes.axhline(last, color=INK, linestyle=":", linewidth=1, label="teacher's last")
        axes.set_title(shortened(name), fontsize=10)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # A student may have no twin: no panel need show all there is.
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(f"validation {axis} (%)", fontsize=10)
    return figure


def _reliability_chart(content: Content) -> Chart:
    rows, (across, along, meaning, counted) = content.networks, content.marks.reliability
    names = list(rows)[:MOST_NAMES]
    errors = [f"{name} {rows[name].ece:.3f}" for name in names]
    return Chart(
        "reliability",
        f"Reliability on the test split{of_many(names, rows)}: {meaning}. "
        f"Points of fewer than {_LEAST_IN_A_BIN} {content.worded(counted)} are left out.",
        f"{along.capitalize()} over {across}. Expected calibration error: {listed(errors)}",
        partial(_draw_reliability, content.reliability, rows, names, (across, along)),
    )


def _draw_reliability(
    bins: Sequence[dict[str, str]], rows: Networks, names: Sequence[str], words: tuple[str, str]
) -> Figure:
    figure, panels = _panels(len(names), columns=4 if len(names) > 6 else 3, height=1.6)
    for axes, name in zip(panels, names, strict=True):
        chosen = [row for row in bins if row["name"] == name and int(row["count"]) >= _LEAST_IN_A_BIN]
        x, y = [float(row["confidence"]) for row in chosen], [float(row["accuracy"]) for row in chosen]
        colour, marker, _ = LOOKS[rows[name].role]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        axes.plot(x, y, color=colour, marker=marker, markersize=3.5)
        axes.set_title(f"{shortened(name)}\nECE {rows[name].ece:.3f}", fontsize=9)
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.grid(alpha=0.3)
    figure.supxlabel(words[0], fontsize=10)
    figure.supylabel(words[1], fontsize=10)
    return figure


def _class_chart(content: Content) -> Chart:
    """Returns the chart of gains by class: of many classes, the largest gains and losses."""
    comparisons, rows, class_names = content.evaluation.comparisons, content.networks, content.class_names
    shown = [comparison.student for comparison in comparisons][:_MOST_LINES]
    gains = {name: _class_gains(content.marks, rows[name], rows[str(rows[name].twin)]) for name in shown}
    mean = np.mean(list(gains.values()), axis=0)
    classes = np.argsort(-np.abs(mean), kind="stable")[:_MOST_CLASSES]
    classes = classes[np.argsort(mean[classes], kind="stable")]
    ends = [f"{shortened(class_names[c])} {mean[c]:+.1f}" for c in (classes[-1], classes[0])]
    few = f" (the {_MOST_CLASSES} of {len(class_names):,} classes with the largest)" * (
        len(class_names) > _MOST_CLASSES
    )
    return Chart(
        "class_gains",
        f"Gain by class{few}: {content.marks.class_words} of the student minus that of its twin, in points{of_many(shown, comparisons)}.",
        f"Gain of students over their twins by class, in points. Largest and smallest mean: {'; '.join(ends)}",
        partial(_draw_classes, gains, classes, class_names),
    )


def _class_gains(marks: Marks, student: NetworkRow, twin: NetworkRow) -> np.ndarray:
    """Returns gains by class in points; 0 for a class without test samples."""
    pairs = zip(marks.by_class(student), marks.by_class(twin), strict=True)
    return np.array([0.0 if s is None or t is None else 100 * (s - t) for s, t in pairs])


def _draw_classes(gains: dict[str, np.ndarray], classes: np.ndarray, class_names: Sequence[str]) -> Figure:
    figure, axes = plt.subplots(figsize=(WIDTH, 0.27 * len(classes) + 1.1), layout="constrained")
    places = np.arange(len(classes))
    axes.axvline(0, color=INK, linewidth=1)
    for (name, gain), colour, marker in zip(gains.items(), _COLOURS, _MARKERS, strict=False):
        axes.scatter(gain[classes], places, color=colour, marker=marker, s=34, alpha=0.9, label=name, zorder=2)
    axes.set_yticks(places, [shortened(class_names[c]) for c in classes], fontsize=9)
    axes.set_ylim(-0.7, len(classes) - 0.3)
    axes.set_xlabel("gain (points)")
    axes.grid(alpha=0.3)
    axes.margins(x=0.08)
    figure.legend(loc="outside upper center", ncols=min(3, len(gains)))
    return figure


def _robustness_chart(content: Content) -> Chart:
    rows, marks = content.networks, content.marks
    there = [name for name, row in rows.items() if row.role == "student"]
    students = there[:_MOST_LINES]
    means = [f"{n} {row.corruptions['mean']:.1%}" for n, row in rows.items() if n == "teacher" or n in students]
    return Chart(
        "robustness",
        f"{marks.title} on corrupted test {content.worded('{things}')}; hollow: the student's hard-label twin{of_many(students, there)}.",
        f"{marks.title} by corruption. Mean over the corruptions: {listed(means)}",
        partial(_draw_robustness, rows, students, marks.axis),
    )


def _draw_robustness(rows: Networks, students: Sequence[str], axis: str) -> Figure:
    """Draws a row for each corruption, in it a line for each student."""
    kinds = [kind for kind in next(iter(rows.values())).corruptions if kind != "mean"]
    places = np.arange(len(kinds))[::-1]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.6 * len(kinds) + 1), layout="constrained")
    shifts = np.linspace(0.28, -0.28, len(students)) if len(students) > 1 else [0.0]
    if "teacher" in rows:
        axes.scatter(_percents(rows["teacher"], kinds), places, s=110, color=INK, marker="*", label="teacher")
    for name, shift, colour, marker in zip(students, shifts, _COLOURS, _MARKERS, strict=False):
        y = places + shift
        x = _percents(rows[name], kinds)
        if (twin_name := rows[name].twin) is not None:
            twin = _percents(rows[twin_name], kinds)
            axes.hlines(y, x, twin, color=colour, linewidth=1)
            axes.scatter(twin, y, s=30, facecolors="none", edgecolors=colour, marker=marker)
        axes.scatter(x, y, s=30, color=colour, marker=marker, label=shortened(name))
    axes.set_yticks(places, [kind.replace("_", " ") for kind in kinds])
    axes.set_xlabel(f"{axis} (%)")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _percents(row: NetworkRow, kinds: Sequence[str]) -> list[float]:
    return [100 * row.corruptions[kind] for kind in kinds]


def _panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Returns a figure and so many panels, which share their scales."""
    columns = min(columns, count)
    lines = -(-count // columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(WIDTH, height * lines + 0.5),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for place, axes in enumerate(panels.flat):
        if place >= count:
            axes.remove()
        elif place + columns >= count:
            axes.tick_params(labelbottom=True)
    return figure, list(panels.flat[:count])
