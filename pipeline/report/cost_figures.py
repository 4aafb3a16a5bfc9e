"""The charts of accuracy against what it costs."""

import re
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.report.columns import Line
from pipeline.report.content import Content, Networks
from pipeline.report.drawing import GREY, LOOKS, MOST_NAMES, WIDTH, Chart, listed


def cost_chart(
    name: str, key: str, axis: str, form: Callable[[float], str], lines: Sequence[Line], content: Content
) -> Chart:
    """Returns a chart of the headline over a cost, which is the cell `key` of a line."""
    words = content.marks.words
    drawn = [line for line in lines if line.get(key)]
    exports = ", exported files" if any(line["role"] == "export" for line in drawn) else ""
    named = [line for line in drawn if line["role"] != "export"]
    points = [f"{line['name']} {line['score']:.1%} at {form(line[key])}" for line in named]
    return Chart(
        f"accuracy_against_{name}",
        f"Test {words} against {axis}: teacher, students, their hard-label twins{exports}. A line joins a student to its twin.",
        f"Test {words} against {axis}. {listed(points)}",
        partial(_draw_cost, (key, axis, form), drawn, content.networks, content.marks.axis),
    )


def _draw_cost(
    cost: tuple[str, str, Callable[[float], str]], lines: Sequence[Line], rows: Networks, headline: str
) -> Figure:
    key, axis, form = cost
    figure, axes = plt.subplots(figsize=(WIDTH, 3.5), layout="constrained")
    places = {line["name"]: (line[key], 100 * line["score"]) for line in lines if line["role"] != "export"}
    for name, place in places.items():
        if (twin := rows[name].twin) in places:
            axes.plot(*zip(place, places[twin], strict=True), color=GREY, linewidth=1, zorder=1)
    for role, (colour, marker, area) in LOOKS.items():
        chosen = [line for line in lines if line["role"].split()[0] == role]
        if chosen:
            x, y = [line[key] for line in chosen], [100 * line["score"] for line in chosen]
            axes.scatter(x, y, s=area, color=colour, marker=marker, label=role, zorder=2, alpha=0.9)
    for name in _worth_naming({n: p for n, p in places.items() if rows[n].role != "twin"}):
        axes.annotate(name, places[name], xytext=(7, 5), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", xlabel=axis, ylabel=f"test {headline} (%)")
    axes.margins(x=0.14, y=0.14)
    _log_ticks(axes, form)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _worth_naming(places: dict[str, tuple[float, float]]) -> list[str]:
    """Returns the names of a few networks, or of many the ones that no cheaper one matches."""
    if len(places) <= MOST_NAMES:
        return list(places)
    return [
        name
        for name, (cost, accuracy) in places.items()
        if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in places.values())
    ][:MOST_NAMES]


def _log_ticks(axes: Axes, form: Callable[[float], str]) -> None:
    """Sets few ticks, written as people write numbers."""
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if high < 50 * low else (1, 3) if high < 1000 * low else (1,))
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: re.sub(r"\.0+ ", " ", form(value))))
