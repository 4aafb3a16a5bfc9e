"""Models of a label's tail: how the mass of the classes that `topk` does not keep is spread over
them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.labels.encodings.base import Field, LabelSpace, LogScale, smallest_unsigned

_TABLE = LogScale(levels=255, range_nats=40.0)
_PIECE_ENTRIES = 1 << 18  # of a pilot's log-probabilities at once
_SMOOTHING = 0.5  # labels' worth of the all-class tail that is mixed into each class's own
_LEAST_SHARE = 1e-30


class TailModel(ABC):
    """A model of the tail's shape, for every served temperature, and the numbering of kept classes
    that goes with it.
    """

    @abstractmethod
    def expected_log_mass(
        self, log_tail: Float[torch.Tensor, " labels"], kept: Int64[torch.Tensor, "labels k"], temperature: float
    ) -> Float[torch.Tensor, " labels"]:
        """Returns the log-sum of the tempered scores of a tail of such a log mass, if its shape is
        that of the model.
        """

    @abstractmethod
    def log_shares(
        self, kept: Int64[torch.Tensor, "labels k"], temperature: float
    ) -> Float[torch.Tensor, "labels classes"]:
        """Returns the log share of the tail of each class, up to a constant for each label."""

    def number(self, kept: Int64[torch.Tensor, "labels k"]) -> Int64[torch.Tensor, "labels k"]:
        """Returns the numbers by which kept classes are stored."""
        return kept

    def classes(self, numbers: Int64[torch.Tensor, "labels k"]) -> Int64[torch.Tensor, "labels k"]:
        """Returns the classes that `number` numbered."""
        return numbers


class EvenTail(TailModel):
    """The model in which all classes that are not kept are equally likely."""

    def __init__(self, space: LabelSpace, k: int) -> None:
        self._space = space
        self._log_rest = math.log(space.num_classes - k)

    def expected_log_mass(self, log_tail: torch.Tensor, kept: torch.Tensor, temperature: float) -> torch.Tensor:
        share = self._space.temperature / temperature
        return log_tail * share + (1 - share) * self._log_rest

    def log_shares(self, kept: torch.Tensor, temperature: float) -> torch.Tensor:
        return torch.zeros((len(kept), self._space.num_classes), device=kept.device)


class PriorTail(TailModel):
    """The model in which a tail is spread as those of the pilot's labels of the same top-1 class
    were on average.

    A kept class other than the first is stored by its rank in the prior of the first, which
    compresses better; classes that the prior does not list come behind it.

    Args:
        tables: Those of `prior_fields`, as `learn_prior` made them.
        size: The number of classes that a row of the prior lists.
    """

    def __init__(self, space: LabelSpace, tables: Mapping[str, np.ndarray], size: int) -> None:
        self._space, self._size = space, size
        self._served = (space.temperature, *space.others)
        self._tables = {name: torch.from_numpy(table) for name, table in tables.items() if name != "prior_classes"}
        # As numbers that torch can index with.
        self._tables["prior_classes"] = torch.from_numpy(tables["prior_classes"].astype(np.int64))
        self._decoded: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}

    def expected_log_mass(self, log_tail: torch.Tensor, kept: torch.Tensor, temperature: float) -> torch.Tensor:
        number = self._served.index(temperature)
        share = self._space.temperature / temperature
        return log_tail * share + self._table("tail_offsets", kept.device)[number][kept[:, 0]]

    def log_shares(self, kept: torch.Tensor, temperature: float) -> torch.Tensor:
        top = kept[:, 0]
        listed, rest = self._log_prior(temperature, top.device)
        shares = rest[top][:, None].expand((len(top), self._space.num_classes))
        return shares.scatter(1, self._table("prior_classes", top.device)[top], listed[top])

    def number(self, kept: torch.Tensor) -> torch.Tensor:
        if kept.shape[1] == 1:
            return kept
        listed = self._table("prior_classes", kept.device)[kept[:, 0]]
        found = listed[:, None, :] == kept[:, 1:, None]
        ranks = torch.where(found.any(dim=2), found.int().argmax(dim=2), self._size + kept[:, 1:])
        return torch.cat([kept[:, :1], ranks], dim=1)

    def classes(self, numbers: torch.Tensor) -> torch.Tensor:
        if numbers.shape[1] == 1:
            return numbers
        top, ranks = numbers[:, :1], numbers[:, 1:]
        listed = self._table("prior_classes", numbers.device)[top[:, 0]]
        known = listed.gather(1, ranks.clamp(max=self._size - 1))
        return torch.cat([top, torch.where(ranks < self._size, known, ranks - self._size)], dim=1)

    def _log_prior(self, temperature: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns log shares of the listed classes [classes, listed], and of each unlisted class
        [classes].
        """
        listed, rest = self._decoded.get(temperature, (None, None))
        if listed is None or rest is None or listed.device != device:
            number = self._served.index(temperature)
            num_rest = max(1, self._space.num_classes - 1 - self._size)
            rest = _TABLE.decode(self._table("prior_rest_codes", device)[number]) - math.log(num_rest)
            listed = _TABLE.decode(self._table("prior_codes", device)[number])
            self._decoded[temperature] = (listed, rest)
        return listed, rest

    def _table(self, name: str, device: torch.device) -> torch.Tensor:
        """Returns a table on a device, and keeps it there: labels come block by block from the same
        one.
        """
        if self._tables[name].device != device:
            self._tables[name] = self._tables[name].to(device)
        return self._tables[name]


def prior_fields(space: LabelSpace, size: int) -> dict[str, Field]:
    """Returns the tables of a prior: for each top-1 class the likeliest classes of its tail, and
    their shares.

    `prior_codes` are the log shares of the listed classes at each served temperature,
    `prior_rest_codes` those of all other classes together; `tail_offsets` (nats) correct the tail's
    mass at that temperature."""
    classes, served = space.num_classes, 1 + len(space.others)
    kept = smallest_unsigned(classes)
    return {
        "prior_classes": Field((classes, size), kept, int(np.iinfo(kept).max), most=classes - 1),
        "prior_codes": Field((served, classes, size), _TABLE.dtype, _TABLE.fill_value),
        "prior_rest_codes": Field((served, classes), _TABLE.dtype, _TABLE.fill_value),
        "tail_offsets": Field((served, classes), np.dtype(np.float32), float("nan")),
    }


def learn_prior(
    log_probs: Float[torch.Tensor, "labels classes"], space: LabelSpace, k: int, size: int
) -> dict[str, np.ndarray]:
    """Returns the mean tail of each top-1 class at each served temperature, the stored one first.

    A class's share is its mean probability over those labels that do not keep it; a top-1 class
    with few labels leans on the mean over all labels."""
    served = (space.temperature, *space.others)
    # 1. Sum up the pilot by top-1 class.
    pilot = _sum_up(log_probs, space, served, k)
    num_left_of_all = pilot.num_left.sum(0)
    order: torch.Tensor | None = None
    codes, rests, offsets = [], [], []
    for number in range(len(served)):
        # 2. The mean tail over all labels. A class that every label keeps is no rarer than those of
        # the tail.
        mean_of_all = pilot.sums[number].sum(0) / num_left_of_all.clamp(min=1)
        mean_of_all = torch.where(num_left_of_all > 0, mean_of_all, mean_of_all.max())
        # 3. The mean tail of each top-1 class, smoothed by that of all; a class is never in its own
        # tail.
        rows = (pilot.sums[number] + _SMOOTHING * mean_of_all) / (pilot.num_left + _SMOOTHING)
        rows.fill_diagonal_(0.0)
        rows = rows / rows.sum(dim=1, keepdim=True).clamp(min=_LEAST_SHARE)
        # 4. List the likeliest classes at the stored temperature, which comes first: one list
        # serves them all.
        if order is None:
            order = rows.clone().fill_diagonal_(-1.0).argsort(dim=1, descending=True, stable=True)[:, :size]
        listed = rows.gather(1, order)
        codes.append(_TABLE.encode(listed.clamp(min=_LEAST_SHARE).log()))
        rests.append(_TABLE.encode((1 - listed.sum(dim=1)).clamp(min=_LEAST_SHARE).log()))
        # 5. The mean correction of the tail's mass, smoothed in the same way.
        mean_excess = pilot.excess[number].sum() / pilot.counts.sum()
        offsets.append(((pilot.excess[number] + _SMOOTHING * mean_excess) / (pilot.counts + _SMOOTHING)).float())
    assert order is not None, "the stored temperature is always served"
    tables = {"prior_codes": codes, "prior_rest_codes": rests, "tail_offsets": offsets}
    classes = order.numpy().astype(smallest_unsigned(space.num_classes))
    return {"prior_classes": classes, **{name: torch.stack(parts).numpy() for name, parts in tables.items()}}


@dataclass(frozen=True)
class _PilotSums:
    """The sums over a pilot's labels, by top-1 class.

    Attributes:
        num_left: The number of labels that have a class in their tail.
        sums: The probability of a class, summed over those labels.
        excess: The tail's log-sum of tempered scores less its tempered log mass, summed over all
            labels.
        counts: The number of labels.
    """

    num_left: Float[torch.Tensor, "classes classes"]
    sums: Float[torch.Tensor, "temperatures classes classes"]
    excess: Float[torch.Tensor, "temperatures classes"]
    counts: Float[torch.Tensor, " classes"]


def _sum_up(log_probs: torch.Tensor, space: LabelSpace, served: Sequence[float], k: int) -> _PilotSums:
    """Returns the sums over a pilot, in float64 and piece by piece: a pilot of 1000 classes does
    not fit a cache.
    """
    num_classes = space.num_classes
    num_left = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    sums = torch.zeros(len(served), num_classes, num_classes, dtype=torch.float64)
    excess = torch.zeros(len(served), num_classes, dtype=torch.float64)
    counts = torch.zeros(num_classes, dtype=torch.float64)
    for some in log_probs.cpu().split(max(1, _PIECE_ENTRIES // num_classes)):
        kept, part = most_likely(some, k), some.double()
        top = kept[:, 0]
        left = torch.ones_like(part).scatter_(1, kept, 0.0)
        num_left.index_add_(0, top, left)
        counts.index_add_(0, top, torch.ones(len(part), dtype=torch.float64))
        log_tail = part.scatter(1, kept, -torch.inf).logsumexp(dim=1)
        for number, temperature in enumerate(served):
            scores = part * (share := space.temperature / temperature)
            sums[number].index_add_(0, top, torch.log_softmax(scores, dim=1).exp() * left)
            over = scores.scatter(1, kept, -torch.inf).logsumexp(dim=1) - share * log_tail
            excess[number].index_add_(0, top, over)
    return _PilotSums(num_left, sums, excess, counts)


def most_likely(log_probs: Float[torch.Tensor, "labels classes"], k: int) -> Int64[torch.Tensor, "labels k"]:
    """Returns the k largest classes (fewer than all), largest first, by number among equals.

    torch's `topk` leaves equals in any order, and a teacher in half precision has many. A GPU,
    which would have to be waited for to find them, is given numbers of which none are equal.
    """
    if log_probs.device.type == "cuda":
        return unequal(log_probs).topk(k, dim=1).indices
    values, classes = log_probs.topk(k + 1, dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
    if tied.any():
        classes[tied] = log_probs[tied].argsort(dim=1, descending=True, stable=True)[:, : k + 1]
    return classes[:, :k]


def unequal(values: Float[torch.Tensor, "labels classes"]) -> Int64[torch.Tensor, "labels classes"]:
    """Returns whole numbers in the order of finite values and, among equal values of a label, from
    the last class to the first.

    The bits of a float32, read as a whole number, are in the order of the values, except that
    those of negative ones run backwards. Values of more bits are ranked instead.
    """
    count = values.shape[1]
    if values.dtype is not torch.float32:
        ranks = torch.empty(values.shape, dtype=torch.int64, device=values.device)
        order = values.argsort(dim=1, descending=True, stable=True)
        return ranks.scatter_(1, order, torch.arange(count, 0, -1, device=values.device).expand_as(order))
    bits = (values + 0.0).view(torch.int32)  # -0 is 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | torch.arange(count - 1, -1, -1, device=values.device)
