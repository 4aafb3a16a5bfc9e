"""The k most likely classes, the mass of all others, and a model of how that mass is spread."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.labels.encodings.base import (
    NO_ANCHORS,
    Codec,
    Encoding,
    Field,
    LabelSpace,
    LogScale,
    smallest_unsigned,
)
from pipeline.labels.encodings.tail import EvenTail, PriorTail, TailModel, learn_prior, most_likely, prior_fields
from pipeline.labels.targets import Detail, SparseTargets
from pipeline.signals.losses import log_normalise

STEP_NATS = 0.25  # of the tail's mass at the other temperatures
_MOST_CLASSES = 16_384  # learning a prior takes 8 bytes and more times the square of this
_LEAST = 1e-9  # of a tail that rounding made negative


@dataclass(frozen=True, config=STRICT)
class TopK(Encoding):
    """The encoding of the `k` most likely classes and the tail mass at every declared temperature.

    A label is stored as: the classes; the log-probabilities, on a `LogScale`, of all kept classes
    but the first (which is 1 minus the others) and of the tail; for every other declared
    temperature T the tail's log-odds, in steps of 0.25 nats from what the stored temperature lets
    expect.

    `tail` decides how a reader spreads the tail: `prior` over classes as the pilot's labels of the
    same top-1 class had it on average, one table per declared temperature; `uniform` evenly; `rest`
    not at all, then teacher and student are compared on the kept classes and one bucket of all
    others. With `prior`, `tail_classes` classes at most have an entry of their own in the table,
    and a kept class is stored by its rank there, which compresses better.

    Error bound: that of `LogScale` for the stored log-probabilities, before renormalising; half a
    step for the tail's log-odds. The error of the tail's shape has no bound; it is measured, and
    stands in the manifest's fidelity. The most likely class is always the teacher's."""

    k: Annotated[int, Limits(ge=1, le=10**6)]
    levels: Annotated[int, Limits(ge=2, le=65535)]
    range_nats: Annotated[float, Limits(gt=0, le=1000)]
    tail: Literal["prior", "uniform", "rest"]
    tail_classes: Annotated[int, Limits(ge=1, le=10**6)]

    kind: ClassVar[str] = "topk"
    fits_positions = True

    @property
    def scale(self) -> LogScale:
        """The scale of the stored log-probabilities."""
        return LogScale(self.levels, self.range_nats)

    @property
    def detail(self) -> Detail:
        return "some classes" if self.tail == "rest" else "filled tail"

    def _check_settings(self, space: LabelSpace, where: str) -> None:
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
        """Returns the number of classes that a row of the prior lists; 0 without a prior."""
        return min(self.tail_classes, space.num_classes - 1) if self.tail == "prior" else 0

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        numbers = self.table_classes(space) + space.num_classes
        kept = smallest_unsigned(numbers)
        fields = {
            "classes": Field((self.k,), kept, int(np.iinfo(kept).max), by_column=True, most=numbers - 1),
            "log_prob_codes": Field((self.k,), self.scale.dtype, self.scale.fill_value, by_column=True),
        }
        if space.others:
            fields["tail_steps"] = Field((len(space.others),), np.dtype(np.int8), -128, by_column=True)
        return fields

    def tables(self, space: LabelSpace) -> dict[str, Field]:
        return prior_fields(space, self.table_classes(space)) if self.tail == "prior" else {}

    def learn(self, log_probs: Float[torch.Tensor, "labels classes"], space: LabelSpace) -> dict[str, np.ndarray]:
        return learn_prior(log_probs, space, self.k, self.table_classes(space)) if self.tail == "prior" else {}

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        with_prior = self.tail == "prior"
        tail = PriorTail(space, tables, self.table_classes(space)) if with_prior else EvenTail(space, self.k)
        return TopKCodec(self, space, tail)


class TopKCodec(Codec):
    """The codec of `TopK`."""

    def __init__(self, encoding: TopK, space: LabelSpace, tail: TailModel) -> None:
        super().__init__(space)
        self._encoding, self._scale, self._tail = encoding, encoding.scale, tail

    def serves(self, temperature: float) -> bool:
        return temperature == self.space.temperature or temperature in self.space.temperatures

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        # 1. Keep the k most likely classes; all others are the tail.
        kept = most_likely(log_probs, self._encoding.k)
        kept_log_probs = log_probs.gather(1, kept)
        others = log_probs.scatter(1, kept, -torch.inf)
        # 2. Store the mass of the tail, and of each kept class but the first, which is what these
        # leave.
        log_tail = others.logsumexp(dim=1)
        codes = self._scale.encode(torch.cat([kept_log_probs[:, 1:], log_tail[:, None]], dim=1))
        fields = {
            "classes": self._tail.number(kept).to(self._encoding.fields(self.space)["classes"].torch_dtype),
            "log_prob_codes": codes,
        }
        # 3. Store how the tail's mass at every other temperature differs from what a reader
        # expects. The reader only has the rounded mass, so that is what the expectation starts
        # from.
        if self.space.others:
            stored_tail = self._scale.decode(codes[:, -1])
            steps = []
            for temperature in self.space.others:
                exact = (others * (self.space.temperature / temperature)).logsumexp(dim=1)
                expected = self._tail.expected_log_mass(stored_tail, kept, temperature)
                steps.append(((exact - expected) / STEP_NATS).round().clamp(-127, 127).to(torch.int8))
            fields["tail_steps"] = torch.stack(steps, dim=1)
        return fields

    def targets(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor | SparseTargets:
        if self._encoding.tail == "rest":
            return self._sparse(fields, temperature)
        return self.decode(fields, temperature)

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        # 1. The kept classes, and one bucket of all others.
        kept = self._sparse(fields, temperature)
        assert kept.log_rest is not None, "a tail has always some mass"
        # 2. Spread the bucket over the classes that are not kept.
        log_shares = self._tail.log_shares(kept.classes, temperature).scatter_(1, kept.classes, -torch.inf)
        tail = log_normalise(log_shares) + kept.log_rest[:, None]
        # 3. No class of the tail was more likely than the last one kept.
        tail = torch.minimum(tail, kept.log_probs[:, -1:] - 1e-4)
        return log_normalise(tail.scatter_(1, kept.classes, kept.log_probs))

    def _sparse(self, fields: dict[str, torch.Tensor], temperature: float) -> SparseTargets:
        """Returns kept classes and the tail's log mass at `temperature`, normalised together."""
        self.require(temperature)
        classes = self._tail.classes(fields["classes"].long())
        scores = self._scale.decode(fields["log_prob_codes"])
        # 1. The first class is what the others leave; never below the second, whatever rounding
        # did.
        first = (1 - scores.exp().sum(dim=1, keepdim=True)).clamp(min=_LEAST).log()
        if self._encoding.k > 1:
            first = torch.maximum(first, scores[:, :1] + 1e-4)
        log_kept, log_tail = torch.cat([first, scores[:, :-1]], dim=1), scores[:, -1]
        # 2. At another temperature the kept scores are scaled; the tail's mass is the expected one,
        # corrected.
        if temperature != self.space.temperature:
            number = self.space.others.index(temperature)
            expected = self._tail.expected_log_mass(log_tail, classes, temperature)
            log_tail = expected + fields["tail_steps"][:, number].float() * STEP_NATS
            log_kept = log_kept * (self.space.temperature / temperature)
        # 3. Normalise both together.
        together = log_normalise(torch.cat([log_kept, log_tail[:, None]], dim=1))
        return SparseTargets(classes, together[:, :-1], together[:, -1])
