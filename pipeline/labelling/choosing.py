"""The encoding for a budget: a ladder of encodings is tried on labels, and the best one that fits
is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pipeline.core.errors import StoreError
from pipeline.core.progress import progress
from pipeline.labelling.ladder import Rung, ladder, measure_encoding
from pipeline.labels.encodings import Budget, LabelSpace

PILOT_PER_CLASS = 20  # labels; below, a learned tail may be worse than an even one (docs/log.md)
_LEAST_SHARE, _MOST_SHARE = 1 / 4, 3 / 4  # of a pilot that is measured
_MOST_MEASURED = 4096


@dataclass(frozen=True)
class TrialLabels:
    """A few labels to try encodings on, and the store that they stand for.

    Attributes:
        measured: Log-probabilities at the stored temperature.
        pilot: Others, which encodings learn from.
        num_labels: Labels of the store, over which tables are spread.
        block_samples: Samples of its blocks.
    """

    measured: Float[torch.Tensor, "labels classes"]
    pilot: Float[torch.Tensor, "others classes"]
    space: LabelSpace
    num_labels: int
    block_samples: int

    @classmethod
    def of_pilot(
        cls,
        log_probs: Float[torch.Tensor, "labels classes"],
        space: LabelSpace,
        num_labels: int,
        block_samples: int,
    ) -> "TrialLabels":
        """Returns a part of a pilot's labels, spread over it, to be measured, and the others.

        Those that a tail needs to be learned from are left to it, but a quarter is measured at
        least. Few labels compress worse than a store's blocks: a top-2 label of ten classes takes
        21% more among 512, 5% among 1,536.
        """
        count = len(log_probs)
        spare = max(_LEAST_SHARE * count, min(count - PILOT_PER_CLASS * space.num_classes, _MOST_SHARE * count))
        some = min(int(spare), _MOST_MEASURED)
        places = torch.arange(count) * some
        is_measured = (places + some) // count > places // count
        if not 0 < int(is_measured.sum()) < count:
            return cls(log_probs, log_probs, space, num_labels, block_samples)
        return cls(log_probs[is_measured], log_probs[~is_measured], space, num_labels, block_samples)

    def rungs(self, stage: str) -> dict[str, Rung]:
        """Returns every rung of the ladder, written as a real store and measured."""
        encodings = ladder(self.space)
        rungs = {}
        with progress(stage, len(encodings), "encoding") as on_encodings:
            for name, encoding in encodings.items():
                rungs[name] = measure_encoding(
                    self.measured,
                    encoding,
                    self.space,
                    pilot=self.pilot,
                    num_labels=self.num_labels,
                    block_samples=self.block_samples,
                )
                on_encodings(1)
        return rungs


def by_size(rungs: Mapping[str, Rung]) -> dict[str, Rung]:
    """Returns the rungs with the smallest first, and among equals the one with the smallest KL."""
    return dict(sorted(rungs.items(), key=lambda item: (item[1].label_bytes, item[1].worst_kl or 0.0)))


def pareto_front(rungs: Mapping[str, Rung]) -> list[str]:
    """Returns the rungs that serve every declared temperature and that no other one is both as
    small and as close to the teacher as, the smallest first.
    """
    front: list[str] = []
    best = np.inf
    for name, rung in by_size(rungs).items():
        if rung.worst_kl is not None and rung.worst_kl < best:
            front.append(name)
            best = rung.worst_kl
    return front


def choose(rungs: Mapping[str, Rung], budget: Budget, where: str) -> str:
    """Returns the rung closest to the teacher within a budget of bytes, or the smallest one within
    a budget of KL.

    Raises:
        StoreError: With the nearest rung, where none fits.
    """
    front = pareto_front(rungs)
    if budget.bytes is not None:
        fitting = [name for name in front if rungs[name].label_bytes <= budget.bytes]
        chosen, nearest = fitting[-1:], front[0]
    else:
        fitting = [name for name in front if (rungs[name].worst_kl or 0.0) <= (budget.kl_nats or 0.0)]
        chosen, nearest = fitting[:1], front[-1]
    if not chosen:
        found = f"no encoding of the ladder fits {budget}"
        raise StoreError(where, found, fix=f"the nearest is {nearest}: {size_and_kl(rungs[nearest])}")
    return chosen[0]


def size_and_kl(rung: Rung) -> str:
    """Returns what a label takes and how close it is to the teacher, for people."""
    return f"{rung.label_bytes:.3f} bytes per label, mean KL up to {rung.worst_kl:.1e} nats"


def as_yaml(row: Mapping[str, Any]) -> str:
    """Returns an encoding's row as it would stand in params.yaml, in one line."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in row.items()) + "}"
