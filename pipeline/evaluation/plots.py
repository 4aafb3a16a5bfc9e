"""Rows of the plots and metrics that DVC shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.core.files import write_bytes
from pipeline.core.tables import lines_of
from pipeline.evaluation.marks import Marked
from pipeline.results.evaluation import NetworkRow

Line = dict[str, Any]

CONFUSIONS = ("name", "actual", "predicted", "count")


def metrics(rows: Mapping[str, NetworkRow], headline: str) -> dict[str, Any]:
    """Returns the few numbers that `dvc metrics` shows, so that a comparison fits a terminal.

    Args:
        headline: The name of the figure by which networks are compared.
    """
    gains = {name: row.gain_points for name, row in rows.items() if row.gain_points is not None}
    headlines = {name: round(row.headline, 5) for name, row in rows.items() if row.headline is not None}
    return {
        **({headline: headlines} if headlines else {}),
        "accuracy": {name: round(row.accuracy, 5) for name, row in rows.items()},
        "gain_points": {name: round(gain, 3) for name, gain in gains.items()},
        "ece": {name: round(row.ece, 5) for name, row in rows.items()},
    }


def size_line(name: str, row: NetworkRow) -> Line:
    """Returns a network's line in the plot of accuracy against size; the latency is that of one
    thread.
    """
    shown = {key: getattr(row, key) for key in ("role", "parameters", "accuracy", "train_seconds")}
    headline = {} if row.headline is None else {"headline": row.headline}
    return {"name": name, **shown, "latency_ms": row.cost.latency_ms["one"]["p50"], **headline}


def reliability_lines(marked: Mapping[str, Marked]) -> Iterator[Line]:
    """Yields every network's bins of confidence."""
    for name, own in marked.items():
        yield from ({"name": name, **asdict(one)} for one in own.bins)


def confusion_lines(marked: Mapping[str, Marked], class_names: Sequence[str]) -> Iterator[Line]:
    """Yields every pair of a class and another that a network took it for, with their count."""
    for name, own in marked.items():
        for actual, predicted, count in own.confusions:
            yield dict(zip(CONFUSIONS, (name, class_names[actual], class_names[predicted], count), strict=True))


def write_table(path: Path, lines: Sequence[Line], columns: Sequence[str] = ()) -> None:
    """Writes lines with the same keys as a table.

    Args:
        columns: These keys, for a table that may have no line.
    """
    rows = [list(lines[0]) if lines else columns, *([str(value) for value in line.values()] for line in lines)]
    write_bytes(path, "".join(lines_of(rows)).encode())
