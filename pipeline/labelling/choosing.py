"""The encoding for a budget: a ladder of encodings is tried on labels, and the best one that fits
is taken.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core.errors import StoreError
from pipeline.labelling.ladder import Rung
from pipeline.labels.encodings import Budget, Figure


def by_size(rungs: Mapping[str, Rung], figure: Figure = "mean") -> dict[str, Rung]:
    """Returns the rungs with the smallest first, and among equals the one with the smallest KL."""
    return dict(sorted(rungs.items(), key=lambda item: (item[1].label_bytes, item[1].worst(figure) or 0.0)))


def pareto_front(rungs: Mapping[str, Rung], figure: Figure = "mean") -> list[str]:
    """Returns the rungs that serve every declared temperature and that no other one is both as
    small and as close to the teacher as, by a figure of the KL, the smallest first.
    """
    front: list[str] = []
    best = np.inf
    for name, rung in by_size(rungs, figure).items():
        worst = rung.worst(figure)
        if worst is not None and worst < best:
            front.append(name)
            best = worst
    return front


def choose(rungs: Mapping[str, Rung], budget: Budget, where: str) -> str:
    """Returns the rung closest to the teacher within a budget of bytes, or the smallest one within
    a budget of KL.

    Raises:
        StoreError: With the nearest rung, where none fits.
    """
    front = pareto_front(rungs, budget.figure)
    if budget.bytes is not None:
        fitting = [name for name in front if rungs[name].label_bytes <= budget.bytes]
        chosen, nearest = fitting[-1:], front[0]
    else:
        fitting = [name for name in front if (rungs[name].worst(budget.figure) or 0.0) <= budget.nats]
        chosen, nearest = fitting[:1], front[-1]
    if not chosen:
        found = f"no encoding of the ladder fits {budget}"
        raise StoreError(where, found, fix=f"the nearest is {nearest}: {size_and_kl(rungs[nearest])}")
    return chosen[0]


def size_and_kl(rung: Rung) -> str:
    """Returns what a label takes and how close it is to the teacher, for people."""
    kl = f"mean KL up to {rung.worst('mean'):.1e} nats, p99.9 up to {rung.worst('p999'):.1e}"
    return f"{rung.label_bytes:.3f} bytes per label, {kl}"


def on_so_many(rung: Rung) -> str:
    """Returns how many labels the figures of a rung rest on, for people."""
    count = int(rung.fidelity["num_labels"])
    return f"measured on {count:,} labels (p99.9: the worst {max(1, count // 1000)})"


def as_yaml(row: Mapping[str, Any]) -> str:
    """Returns an encoding's row as it would stand in params.yaml, in one line."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in row.items()) + "}"
