"""Rows of the plots and metrics that DVC shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64

from pipeline.core.files import write_bytes
from pipeline.core.tables import lines_of
from pipeline.evaluation.breakdown import confusions
from pipeline.evaluation.scores import Answers
from pipeline.results.evaluation import NetworkRow
from pipeline.signals.metrics import ReliabilityBin

Line = dict[str, Any]


def metrics(rows: Mapping[str, NetworkRow]) -> dict[str, Any]:
    """Returns the few numbers that `dvc metrics` shows, so that a comparison fits a terminal."""
    gains = {name: row.gain_points for name, row in rows.items() if row.gain_points is not None}
    return {
        "accuracy": {name: round(row.accuracy, 5) for name, row in rows.items()},
        "gain_points": {name: round(gain, 3) for name, gain in gains.items()},
        "ece": {name: round(row.ece, 5) for name, row in rows.items()},
    }


def size_line(name: str, row: NetworkRow) -> Line:
    """Returns a network's line in the plot of accuracy against size; the latency is that of one
    thread.
    """
    shown = {key: getattr(row, key) for key in ("role", "parameters", "accuracy", "train_seconds")}
    return {"name": name, **shown, "latency_ms": row.cost.latency_ms["one"]["p50"]}


def reliability_lines(bins: Mapping[str, Sequence[ReliabilityBin]]) -> Iterator[Line]:
    """Yields every network's bins of confidence."""
    for name, own in bins.items():
        yield from ({"name": name, **asdict(one)} for one in own)


def confusion_lines(
    answers: Mapping[str, Answers], hard_labels: Int64[torch.Tensor, " samples"], class_names: Sequence[str]
) -> Iterator[Line]:
    """Yields every pair of a hard label and a predicted class that a network made, with their
    count.
    """
    for name, own in answers.items():
        for actual, predicted, count in confusions(own.predicted, hard_labels):
            names = {"actual": class_names[actual], "predicted": class_names[predicted]}
            yield {"name": name, **names, "count": count}


def write_table(path: Path, lines: Sequence[Line]) -> None:
    """Writes lines with the same keys as a table."""
    rows = [list(lines[0]), *([str(value) for value in line.values()] for line in lines)]
    write_bytes(path, "".join(lines_of(rows)).encode())
