"""The report as one HTML file that needs nothing else: no network, no other file, no library."""

import base64
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report.columns import Table, size
from pipeline.report.content import Content, Networks
from pipeline.report.drawing import Chart
from pipeline.report.map_samples import map_samples
from pipeline.report.tables import (
    everything,
    export_columns,
    export_lines,
    export_notes,
    kl_nats,
    robustness_table,
)
from pipeline.report.verdicts import about_error, headline, verdict

_HERE = Path(__file__).parent
_MOST_CLASSES = 30  # in a table of confusions
_MOST_CONFUSIONS = 20
_ROLES = {"teacher": "teacher", "student": "student", "twin": "hard-label twin"}


def render_page(content: Content, charts: list[Chart]) -> str:
    """Returns the page; the same content gives the same text."""
    # Every text is escaped as it is put in; what is not text is marked here, below.
    environment = Environment(
        loader=FileSystemLoader(_HERE, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bytes"] = size
    environment.filters["worded"] = content.worded
    return environment.get_template("page.html").render(
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        data=_as_script(_browsed(content)),
        headline=headline(content),
        about_error=about_error(content),
        evaluation=content.evaluation,
        thing=content.worded("{thing}"),
        things=content.worded("{things}"),
        marks=content.marks,
        classes=content.marks.class_table(content.evaluation),
        teacher=content.networks.get("teacher"),
        comparisons=_comparisons(content),
        alone=[n for n, row in content.networks.items() if row.role == "student" and row.twin is None],
        networks=everything(content),
        exports=Table.of(export_columns(content.marks), export_lines(content.exports)),
        export_notes=export_notes(content.exports),
        charts={chart.name: {"svg": Markup(chart.svg()), "caption": chart.caption} for chart in charts},
        stores=_stores(content),
        robustness=robustness_table(content.networks),
        explanation=content.explanation,
        samples=content.samples,
        maps=map_samples(content.samples),
        sheets={key: base64.b64encode(image).decode() for key, image in content.sheets.items()},
        settings=_settings(content.networks),
    )


def _comparisons(content: Content) -> list[dict[str, Any]]:
    """Returns each comparison's sentence and verdict, and the places of its bar.

    Mean, interval and zero lie on one scale for all, in percent of its width.
    """
    found = content.evaluation.comparisons
    ends = [(c.gain_points.mean, 2 * c.gain_points.standard_error) for c in found]
    low = min([0.0, *(mean - error for mean, error in ends)])
    high = max([0.0, *(mean + error for mean, error in ends)])
    low, high = low - 0.06 * (high - low) - 1e-9, high + 0.06 * (high - low) + 1e-9

    def place(points: float) -> float:
        return float(100 * (points - low) / (high - low))

    return [
        {
            "paid": comparison.paid,
            "name": comparison.student,
            "gain": mean,
            "error": error,
            "sentence": verdict(comparison, content),
            "zero": place(0),
            "mean": place(mean),
            "start": place(mean - error),
            "width": place(mean + error) - place(mean - error),
        }
        for comparison, (mean, error) in zip(found, ends, strict=True)
    ]


def _stores(content: Content) -> list[dict[str, Any]]:
    """Returns the facts on the card of each store."""
    cards = []
    for name, store in content.evaluation.stores.items():
        encoding = dict(store.encoding)
        checked = content.verification["stores"].get(name)
        cards.append(
            {
                "name": name,
                "kind": encoding.pop("kind"),
                "settings": ", ".join(f"{key} {value}" for key, value in encoding.items()),
                "store": store,
                "kl_nats": kl_nats(store),
                "checked": checked,
            }
        )
    return cards


def _settings(rows: Networks) -> dict[str, Any]:
    """Returns the settings that all students share, and those in which networks differ."""
    flat = {name: _flat(row.settings) for name, row in rows.items()}
    students = [settings for name, settings in flat.items() if name != "teacher"]
    keys = dict.fromkeys(key for settings in students for key in settings)
    shared = {key: students[0].get(key) for key in keys if len({s.get(key) for s in students}) == 1}
    differing = [key for key in keys if key not in shared]
    return {
        "shared": shared,
        "differing": differing,
        "rows": [(name, [flat[name].get(key, "") for key in differing]) for name in rows if name != "teacher"],
        "teacher": flat.get("teacher"),
    }


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings.items():
        found |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {prefix + key: value if isinstance(value, str) else json.dumps(value)}
        )
    return found


def _browsed(content: Content) -> dict[str, Any]:
    """Returns what the page's script shows: samples and confusions; classes by number."""
    return {
        "class_names": content.class_names,
        "roles": {name: _ROLES[row.role] for name, row in content.networks.items()},
        "confusions": _confusions(content),
        "confusion_words": [content.worded(words) for words in content.marks.confusion[1:]],
        "browser": None if map_samples(content.samples) else content.samples,
    }


def _confusions(content: Content) -> dict[str, dict[str, Any]]:
    """Returns per network the largest confusions as [actual, predicted, count], and a table.

    With many classes, the table is that of the most confused ones.
    """
    number = {name: place for place, name in enumerate(content.class_names)}
    cells: defaultdict[str, list[list[int]]] = defaultdict(list)
    for row in content.confusion:
        cells[row["name"]].append([number[row["actual"]], number[row["predicted"]], int(row["count"])])
    found = {}
    for name, counts in cells.items():
        wrong = sorted((cell for cell in counts if cell[0] != cell[1]), key=lambda cell: -cell[2])
        by_class: defaultdict[int, int] = defaultdict(int)
        for actual, predicted, count in wrong:
            by_class[actual] += count
            by_class[predicted] += count
        chosen = sorted(by_class, key=lambda place: -by_class[place])[:_MOST_CLASSES]
        shown = set(number.values()) if len(number) <= _MOST_CLASSES else set(chosen)
        found[name] = {
            "classes": sorted(shown),
            "cells": [cell for cell in counts if cell[0] in shown and cell[1] in shown],
            "largest": wrong[:_MOST_CONFUSIONS],
        }
    return found


def _as_script(value: object) -> Markup:
    """Returns JSON inside a <script>; `<` is escaped, so that no text can end it."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))
