"""Fidelity, the distance of decoded labels from the teacher: statistics that merge block by block,
in any order, to the same bits.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float

from pipeline.signals import StoredSignal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.vector import DISTANCES

# KL values are counted in bins 4% wide from 1e-9 nats up, so that a percentile needs no list of all
# labels.
_LOWEST_NATS = 1e-9
_STEPS_PER_E = 25
NUM_BINS = 651


@dataclass(frozen=True)
class KlTally:
    """A tally of KL(teacher || decoded) of some labels at one temperature."""

    count: int
    total_nats: float
    max_nats: float
    bins: dict[int, int]

    @classmethod
    def of(cls, kl_nats: Float[torch.Tensor, " labels"]) -> "KlTally":
        values = kl_nats.double().clamp(min=0).cpu().numpy()
        scaled = np.log(np.maximum(values, _LOWEST_NATS) / _LOWEST_NATS) * _STEPS_PER_E
        numbers, counts = np.unique(np.minimum(scaled.astype(np.int64), NUM_BINS - 1), return_counts=True)
        bins = {int(n): int(c) for n, c in zip(numbers, counts, strict=True)}
        return cls(len(values), math.fsum(values), float(values.max()), bins)

    @classmethod
    def merge(cls, tallies: Iterable["KlTally"]) -> "KlTally":
        parts = list(tallies)
        bins: dict[int, int] = {}
        for part in parts:
            for number, count in part.bins.items():
                bins[number] = bins.get(number, 0) + count
        total = math.fsum(part.total_nats for part in parts)
        return cls(sum(p.count for p in parts), total, max(p.max_nats for p in parts), dict(sorted(bins.items())))

    def figures(self) -> dict[str, float]:
        """Returns mean, p99.9 and max."""
        return {"mean": self.total_nats / self.count, "p999": self.percentile(0.999), "max": self.max_nats}

    def percentile(self, share: float) -> float:
        """Returns the KL in nats that `share` of the labels stay below, 4.1% too high at most up to
        195 nats.
        """
        needed, seen = share * self.count, 0
        for number, count in sorted(self.bins.items()):
            seen += count
            if seen >= needed and number < NUM_BINS - 1:  # the last bin has no upper end
                return min(_LOWEST_NATS * math.exp((number + 1) / _STEPS_PER_E), self.max_nats)
        return self.max_nats


@dataclass(frozen=True)
class Fidelity:
    """A comparison of decoded labels with the teacher's own: KL by temperature, and how often both
    come to the same answer (the top-1 class; of independent classes, all that are above one half;
    of a grid, the top-1 class at 99% of the positions).

    Of embeddings it has, in place of the KL by temperature, their relative squared error and their
    cosine distance; the same answer is a cosine of 0.99 or more.
    """

    by_temperature: dict[str, KlTally]
    num_agreeing: int

    # How a store keeps the parts of its fidelity: by part and temperature, counts of labels by KL,
    # and total and largest KL in nats; by part, the number of labels and of those whose top-1 class
    # is the teacher's.
    ARRAYS: ClassVar[tuple[str, ...]] = ("fidelity_counts", "fidelity_nats", "fidelity_labels")

    @classmethod
    def of(
        cls,
        exact: dict[float, Float[torch.Tensor, "labels classes *positions"]],
        decoded: dict[float, Float[torch.Tensor, "labels classes *positions"]],
        signal: StoredSignal = CATEGORICAL,
    ) -> "Fidelity":
        """Returns the fidelity of labels, from the exact and the decoded values by temperature."""
        tallies = {name: KlTally.of(values) for name, values in signal.distances(exact, decoded).items()}
        first = next(iter(exact))
        same = signal.same_answer(exact[first], decoded[first])
        return cls(tallies, int(same.sum()))

    @classmethod
    def merge(cls, parts: Iterable["Fidelity"]) -> "Fidelity":
        fidelities = list(parts)
        temperatures = fidelities[0].by_temperature
        tallies = {t: KlTally.merge(f.by_temperature[t] for f in fidelities) for t in temperatures}
        return cls(tallies, sum(f.num_agreeing for f in fidelities))

    def summary(self) -> dict[str, Any]:
        """Returns the figures of the manifest: labels measured, agreement (0 to 1), and mean, p99.9
        and max KL in nats at each temperature; of embeddings, of the two distances.
        """
        count, share = self.num_labels, self.num_agreeing / self.num_labels
        figures = {name: tally.figures() for name, tally in self.by_temperature.items()}
        if figures.keys() == {*DISTANCES}:
            return {"num_labels": count, "same_direction": share, **figures}
        return {"num_labels": count, "top1_agreement": share, "kl_nats": figures}

    @property
    def num_labels(self) -> int:
        return next(iter(self.by_temperature.values())).count

    @classmethod
    def to_arrays(cls, parts: Sequence["Fidelity"]) -> dict[str, np.ndarray]:
        """Returns parts as plain arrays."""
        shape = (len(parts), len(parts[0].by_temperature) if parts else 0)
        counts, nats = np.zeros((*shape, NUM_BINS), dtype=np.uint32), np.zeros((*shape, 2), dtype=np.float64)
        for number, part in enumerate(parts):
            for column, tally in enumerate(part.by_temperature.values()):
                counts[number, column, list(tally.bins)] = list(tally.bins.values())
                nats[number, column] = tally.total_nats, tally.max_nats
        labels = np.array([[part.num_labels, part.num_agreeing] for part in parts], dtype=np.uint32).reshape(-1, 2)
        return {"fidelity_counts": counts, "fidelity_nats": nats, "fidelity_labels": labels}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], temperatures: Sequence[float], signal: StoredSignal = CATEGORICAL
    ) -> list["Fidelity"]:
        """Returns the parts again; raises ValueError where the arrays do not fit each other or the
        temperatures.
        """
        names = signal.distance_names(temperatures)
        parts = []
        counted = arrays[cls.ARRAYS[0]]
        if len(counted) and counted.shape[1:] != (len(names), NUM_BINS):
            raise ValueError("counts of another number of temperatures or bins")
        for counts, nats, (num_labels, num_agreeing) in zip(*(arrays[name] for name in cls.ARRAYS), strict=True):
            tallies = {}
            for name, row, (total, largest) in zip(names, counts, nats, strict=True):
                bins = {int(n): int(row[n]) for n in np.flatnonzero(row)}
                tallies[name] = KlTally(int(num_labels), float(total), float(largest), bins)
            parts.append(cls(tallies, int(num_agreeing)))
        return parts

    def to_dict(self) -> dict[str, Any]:
        tallies = {
            temperature: [t.count, t.total_nats, t.max_nats, [[n, c] for n, c in t.bins.items()]]
            for temperature, t in self.by_temperature.items()
        }
        return {"kl": tallies, "num_agreeing": self.num_agreeing}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Fidelity":
        tallies = {
            temperature: KlTally(count, total, largest, dict(bins))
            for temperature, (count, total, largest, bins) in content["kl"].items()
        }
        return cls(tallies, content["num_agreeing"])
