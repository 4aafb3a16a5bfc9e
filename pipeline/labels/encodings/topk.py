"""The k largest classes, the mass of all others, and a learned model of how that mass is spread."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.labels.encodings.base import (
    Codec,
    Encoding,
    Field,
    LabelSpace,
    LogScale,
    log_normalise,
    smallest_unsigned,
)
from pipeline.labels.targets import Detail, SparseTargets

STEP_NATS = 0.25  # of the tail's mass at the other temperatures
_TABLE = LogScale(levels=255, range_nats=40.0)
_PIECE_ENTRIES = 1 << 18  # of a pilot's log-probabilities at once
_SMOOTHING = 0.5  # labels' worth of the all-class tail that is mixed into each class's own
_MOST_CLASSES = 16_384  # learning a prior takes 8 bytes and more times the square of this
_LEAST = 1e-9  # of a tail that rounding made negative


@dataclass(frozen=True, config=STRICT)
class TopK(Encoding):
    """The `k` most likely classes and the tail mass at every declared temperature.

    Of a label are stored: the classes; the log-probabilities, on a `LogScale`, of all kept classes but the first (which
    is 1 minus the others) and of the tail; for every other declared temperature T the tail's log-odds, in steps of 0.25
    nats from what the stored temperature lets expect.

    `tail` says how a reader spreads the tail: `prior` over classes as the pilot's labels of the same top-1 class had
    it on average, one table per declared temperature; `uniform` evenly; `rest` not at all, then teacher and student
    are compared on the kept classes and one bucket of all others. With `prior`, `tail_classes` classes at most have
    an entry of their own in the table, and a kept class is stored by its rank there, which compresses better.

    Error bound: that of `LogScale` for the stored log-probabilities, before renormalising; half a step for the tail's
    log-odds. How well the tail's shape is met has no bound: the manifest's fidelity has it measured. The most likely
    class is always the teacher's.
    """

    k: Annotated[int, Limits(ge=1)]
    levels: Annotated[int, Limits(ge=2, le=65535)]
    range_nats: Annotated[float, Limits(gt=0, le=1000)]
    tail: Literal["prior", "uniform", "rest"]
    tail_classes: Annotated[int, Limits(ge=1)]

    kind: ClassVar[str] = "topk"

    @property
    def scale(self) -> LogScale:
        return LogScale(self.levels, self.range_nats)

    @property
    def detail(self) -> Detail:
        return "some classes" if self.tail == "rest" else "filled tail"

    def check(self, space: LabelSpace, where: str) -> None:
        if self.k >= space.num_classes:
            most = f"at most {space.num_classes - 1} for {space.num_classes} classes"
            raise ConfigError(
                f"{where}.k", str(self.k), expected=most, fix="or a dense encoding, which is smaller then"
            )
        if self.tail == "prior" and space.num_classes > _MOST_CLASSES:
            most = f"at most {_MOST_CLASSES:,} classes for a prior"
            raise ConfigError(
                f"{where}.tail", f"prior of {space.num_classes:,} classes", expected=most, fix="tail: uniform"
            )

    def table_classes(self, space: LabelSpace) -> int:
        """How many classes a row of the prior holds."""
        return min(self.tail_classes, space.num_classes - 1) if self.tail == "prior" else 0

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        kept = smallest_unsigned(self.table_classes(space) + space.num_classes)
        fields = {
            "classes": Field((self.k,), kept, int(np.iinfo(kept).max), by_column=True),
            "log_prob_codes": Field((self.k,), self.scale.dtype, self.scale.fill_value, by_column=True),
        }
        if space.others:
            fields["tail_steps"] = Field((len(space.others),), np.dtype(np.int8), -128, by_column=True)
        return fields

    def tables(self, space: LabelSpace) -> dict[str, Field]:
        if self.tail != "prior":
            return {}
        classes, size, served = space.num_classes, self.table_classes(space), 1 + len(space.others)
        kept = smallest_unsigned(classes)
        return {
            "prior_classes": Field((classes, size), kept, int(np.iinfo(kept).max)),
            "prior_codes": Field((served, classes, size), _TABLE.dtype, _TABLE.fill_value),
            "prior_rest_codes": Field((served, classes), _TABLE.dtype, _TABLE.fill_value),
            "tail_offsets": Field((served, classes), np.dtype(np.float32), float("nan")),
        }

    def learn(self, log_probs: Float[torch.Tensor, "labels classes"], space: LabelSpace) -> dict[str, np.ndarray]:
        """The mean tail of each top-1 class at each served temperature, the stored one first.

        A class's share is its mean probability over those labels that do not keep it; a top-1 class with few labels
        leans on the mean over all labels.
        """
        if self.tail != "prior":
            return {}
        size, served = self.table_classes(space), (space.temperature, *space.others)
        num_left, sums, excess, counts = self._sum_up(log_probs, space, served)
        num_left_of_all = num_left.sum(0)
        order: torch.Tensor | None = None
        codes, rests, offsets = [], [], []
        for number in range(len(served)):
            mean_of_all = sums[number].sum(0) / num_left_of_all.clamp(min=1)
            # A class that every label keeps is no rarer than those of the tail.
            mean_of_all = torch.where(num_left_of_all > 0, mean_of_all, mean_of_all.max())
            rows = (sums[number] + _SMOOTHING * mean_of_all) / (num_left + _SMOOTHING)
            rows.fill_diagonal_(0.0)
            rows = rows / rows.sum(dim=1, keepdim=True).clamp(min=1e-30)
            if order is None:
                order = rows.clone().fill_diagonal_(-1.0).argsort(dim=1, descending=True, stable=True)[:, :size]
            listed = rows.gather(1, order)
            codes.append(_TABLE.encode(listed.clamp(min=1e-30).log()))
            rests.append(_TABLE.encode((1 - listed.sum(dim=1)).clamp(min=1e-30).log()))
            mean_excess = excess[number].sum() / counts.sum()
            offsets.append(((excess[number] + _SMOOTHING * mean_excess) / (counts + _SMOOTHING)).float())
        assert order is not None, "the stored temperature is always served"
        tables = {"prior_codes": codes, "prior_rest_codes": rests, "tail_offsets": offsets}
        classes = order.numpy().astype(smallest_unsigned(space.num_classes))
        return {"prior_classes": classes, **{name: torch.stack(parts).numpy() for name, parts in tables.items()}}

    def _sum_up(
        self, log_probs: torch.Tensor, space: LabelSpace, served: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """By top-1 class: of how many labels each class is in the tail [classes, classes]; the sum of its probability
        there [temperatures, classes, classes]; the sum of what the tail's log-sum of tempered scores has above its
        tempered log mass [temperatures, classes]; and the number of labels [classes]."""
        num_classes = space.num_classes
        num_left = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        sums = torch.zeros(len(served), num_classes, num_classes, dtype=torch.float64)
        excess = torch.zeros(len(served), num_classes, dtype=torch.float64)
        counts = torch.zeros(num_classes, dtype=torch.float64)
        for some in log_probs.cpu().split(max(1, _PIECE_ENTRIES // num_classes)):
            kept, part = _most_likely(some, self.k), some.double()
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
        return num_left, sums, excess, counts

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return TopKCodec(self, space, tables)


def _most_likely(log_probs: Float[torch.Tensor, "labels classes"], k: int) -> Int64[torch.Tensor, "labels k"]:
    """The k largest classes (fewer than all), largest first, by number among equals: `topk` leaves these in any order,
    and a teacher in half precision has many."""
    values, classes = log_probs.topk(k + 1, dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
    if tied.any():
        classes[tied] = log_probs[tied].argsort(dim=1, descending=True, stable=True)[:, : k + 1]
    return classes[:, :k]


class TopKCodec(Codec):
    def __init__(self, encoding: TopK, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> None:
        super().__init__(space)
        self._encoding, self._scale = encoding, encoding.scale
        self._tables = {name: torch.from_numpy(table) for name, table in tables.items() if name != "prior_classes"}
        if "prior_classes" in tables:  # as numbers that torch can index with
            self._tables["prior_classes"] = torch.from_numpy(tables["prior_classes"].astype(np.int64))
        self._prior: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}
        self._size = encoding.table_classes(space)

    def serves(self, temperature: float) -> bool:
        return temperature == self.space.temperature or temperature in self.space.temperatures

    def encode(self, log_probs: torch.Tensor, sample_ids: np.ndarray, view: int) -> dict[str, torch.Tensor]:
        kept = _most_likely(log_probs, self._encoding.k)
        kept_log_probs = log_probs.gather(1, kept)
        others = log_probs.scatter(1, kept, -torch.inf)
        log_tail = others.logsumexp(dim=1)
        codes = self._scale.encode(torch.cat([kept_log_probs[:, 1:], log_tail[:, None]], dim=1))
        fields = {
            "classes": self._number(kept).to(self._encoding.fields(self.space)["classes"].torch_dtype),
            "log_prob_codes": codes,
        }
        if self.space.others:
            stored_tail = self._scale.decode(codes[:, -1])
            steps = []
            for number, temperature in enumerate(self.space.others, start=1):
                share = self.space.temperature / temperature
                exact = (others * share).logsumexp(dim=1)
                expected = self._expected_tail(stored_tail, kept[:, 0], number, share)
                steps.append(((exact - expected) / STEP_NATS).round().clamp(-127, 127).to(torch.int8))
            fields["tail_steps"] = torch.stack(steps, dim=1)
        return fields

    def targets(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor | SparseTargets:
        if self._encoding.tail == "rest":
            return self._sparse(fields, temperature)
        return self.decode(fields, temperature)

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        kept = self._sparse(fields, temperature)
        assert kept.log_rest is not None, "a tail has always some mass"
        log_shares = self._log_shares(kept.classes[:, 0], temperature).scatter_(1, kept.classes, -torch.inf)
        tail = log_normalise(log_shares) + kept.log_rest[:, None]
        # No class of the tail was more likely than the last one kept.
        tail = torch.minimum(tail, kept.log_probs[:, -1:] - 1e-4)
        return log_normalise(tail.scatter_(1, kept.classes, kept.log_probs))

    def _sparse(self, fields: dict[str, torch.Tensor], temperature: float) -> SparseTargets:
        """Kept classes and the tail's log mass at `temperature`, normalised together."""
        self.require(temperature)
        classes = self._classes(fields["classes"])
        scores = self._scale.decode(fields["log_prob_codes"])
        # The first class is what the others leave; never below the second, whatever rounding did.
        first = (1 - scores.exp().sum(dim=1, keepdim=True)).clamp(min=_LEAST).log()
        if self._encoding.k > 1:
            first = torch.maximum(first, scores[:, :1] + 1e-4)
        log_kept, log_tail = torch.cat([first, scores[:, :-1]], dim=1), scores[:, -1]
        if temperature != self.space.temperature:
            number = self.space.others.index(temperature)
            share = self.space.temperature / temperature
            expected = self._expected_tail(log_tail, classes[:, 0], number + 1, share)
            log_tail = expected + fields["tail_steps"][:, number].float() * STEP_NATS
            log_kept = log_kept * share
        together = log_normalise(torch.cat([log_kept, log_tail[:, None]], dim=1))
        return SparseTargets(classes, together[:, :-1], together[:, -1])

    def _expected_tail(self, log_tail: torch.Tensor, top: torch.Tensor, number: int, share: float) -> torch.Tensor:
        """What the tempered tail's log-sum would be if its shape were the average one (or even)."""
        if self._encoding.tail == "prior":
            return log_tail * share + self._table("tail_offsets", top.device)[number][top]
        return log_tail * share + (1 - share) * math.log(self.space.num_classes - self._encoding.k)

    def _log_shares(self, top: Int64[torch.Tensor, " labels"], temperature: float) -> torch.Tensor:
        """How the tail is spread over all classes, up to a factor."""
        shape = (len(top), self.space.num_classes)
        if self._encoding.tail != "prior":
            return torch.zeros(shape, device=top.device)
        listed, rest = self._log_prior(temperature, top.device)
        shares = rest[top][:, None].expand(shape)
        return shares.scatter(1, self._table("prior_classes", top.device)[top], listed[top])

    def _log_prior(self, temperature: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Log shares of the listed classes [classes, listed], and of each class that is not listed [classes]."""
        if temperature not in self._prior:
            number = (self.space.temperature, *self.space.others).index(temperature)
            num_rest = max(1, self.space.num_classes - 1 - self._size)
            rest = _TABLE.decode(self._table("prior_rest_codes", device)[number]) - math.log(num_rest)
            self._prior[temperature] = (_TABLE.decode(self._table("prior_codes", device)[number]), rest)
        listed, rest = self._prior[temperature]
        if listed.device != device:
            self._prior.pop(temperature)
            return self._log_prior(temperature, device)
        return listed, rest

    def _table(self, name: str, device: torch.device) -> torch.Tensor:
        if self._tables[name].device != device:
            self._tables[name] = self._tables[name].to(device)
        return self._tables[name]

    def _number(self, kept: torch.Tensor) -> torch.Tensor:
        """Kept classes as they are stored: the first as it is, others by their rank in its prior, else behind it."""
        if not self._size or self._encoding.k == 1:
            return kept
        listed = self._table("prior_classes", kept.device)[kept[:, 0]]
        found = listed[:, None, :] == kept[:, 1:, None]
        ranks = torch.where(found.any(dim=2), found.int().argmax(dim=2), self._size + kept[:, 1:])
        return torch.cat([kept[:, :1], ranks], dim=1)

    def _classes(self, numbers: torch.Tensor) -> torch.Tensor:
        """The inverse of `_number`."""
        numbers = numbers.long()
        if not self._size or self._encoding.k == 1:
            return numbers
        top, ranks = numbers[:, :1], numbers[:, 1:]
        listed = self._table("prior_classes", numbers.device)[top[:, 0]]
        known = listed.gather(1, ranks.clamp(max=self._size - 1))
        return torch.cat([top, torch.where(ranks < self._size, known, ranks - self._size)], dim=1)
