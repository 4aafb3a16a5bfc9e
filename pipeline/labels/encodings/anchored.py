"""A few classes in which a label differs from the mean of its sample's first views."""

from collections.abc import Mapping
from dataclasses import dataclass as plain
from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field as Limits
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.labels.encodings.anchors import Anchors, anchor_fields, encode_anchors
from pipeline.labels.encodings.base import (
    NO_ANCHORS,
    Codec,
    Encoding,
    Field,
    LabelSpace,
    smallest_unsigned,
)
from pipeline.labels.encodings.tail import most_likely
from pipeline.labels.targets import Detail

#: A label's anchor is raised to one of these powers: a view may be flatter or sharper than it.
SHAPES = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.45)
ZERO_SHIFT, _LARGEST_CODE = 32, 254  # code 0: no class; a byte's largest number is the fill value
_LIKELY, _EXPECTED = 24, 8  # classes that a label may keep: its own likeliest, and its anchor's
_LEAST = 1e-12
_BELOW_FIRST = 1e-4  # of a log-probability


@dataclass(frozen=True, config=STRICT)
class Anchored(Encoding):
    """The encoding of a label by its differences from an anchor: one coarse distribution for each
    sample, the geometric mean of the teacher's predictions for its first `anchor_views` views.

    An anchor is its `anchor_classes` most likely classes in steps of `anchor_step_nats`, and the
    mean of all others. A label is a power of its anchor (`SHAPES`), in which up to `k` classes are
    shifted: by the log-odds against all classes that are not kept, in steps of `step_nats`. The
    most likely class is always kept. Further ones are kept where that makes KL(teacher || label)
    smaller by `least_gain_nats` or more, twice as much for a class that its anchor does not list.

    Every class has a score, so labels are read at any temperature. Nothing is learned.

    Error bound: half a step for the shift of each kept class, before renormalising. The error of
    the other classes has no bound; it is measured, and stands in the manifest's fidelity. The most
    likely class is always the teacher's."""

    k: Annotated[int, Limits(ge=1, le=64)]
    step_nats: Annotated[float, Limits(gt=0, le=10)]
    least_gain_nats: Annotated[float, Limits(gt=0, le=100)]
    anchor_views: Annotated[int, Limits(ge=1, le=10**4)] = field()  # not 0, as the base class has it
    anchor_classes: Annotated[int, Limits(ge=1, le=250)]
    anchor_step_nats: Annotated[float, Limits(gt=0, le=100)]

    kind: ClassVar[str] = "anchored"

    @property
    def detail(self) -> Detail:
        return "filled tail"

    def listed(self, space: LabelSpace) -> int:
        """Returns the number of classes that an anchor lists."""
        return min(self.anchor_classes, space.num_classes - 1)

    def most_kept(self, space: LabelSpace) -> int:
        """Returns the number of classes that a label keeps at most."""
        return min(self.k, space.num_classes - 1)

    def fields(self, space: LabelSpace) -> dict[str, Field]:
        kept, number = self.most_kept(space), smallest_unsigned(space.num_classes)
        return {
            "places": Field((kept,), np.dtype(np.uint8), 255, by_column=True, most=self.listed(space) + 1),
            "shapes": Field((1,), np.dtype(np.uint8), 255, most=len(SHAPES) - 1),
            "shift_codes": Field((kept,), np.dtype(np.uint8), 255, by_column=True),
            "elsewhere": Field((kept,), number, int(np.iinfo(number).max), most=space.num_classes - 1),
        }

    def anchors(self, space: LabelSpace) -> dict[str, Field]:
        return anchor_fields(space, self.listed(space))

    def codec(self, space: LabelSpace, tables: Mapping[str, np.ndarray]) -> Codec:
        return AnchoredCodec(self, space)


@plain(frozen=True)
class _Candidates:
    """The classes that a label may keep, its most likely one first.

    Attributes:
        may: Whether a class may be kept; the second of two equal ones may not.
        log_probs: The label's.
        expected: The scores of the label's anchor.
        is_listed: Whether the anchor lists a class.
    """

    classes: Int64[torch.Tensor, "labels candidates"]
    may: Bool[torch.Tensor, "labels candidates"]
    log_probs: Float[torch.Tensor, "labels candidates"]
    expected: Float[torch.Tensor, "labels candidates"]
    is_listed: Bool[torch.Tensor, "labels candidates"]


class AnchoredCodec(Codec):
    """The codec of `Anchored`."""

    def __init__(self, encoding: Anchored, space: LabelSpace) -> None:
        super().__init__(space)
        self._encoding, self._listed = encoding, encoding.listed(space)
        self._most_kept = encoding.most_kept(space)

    def make_anchors(self, mean_log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
        return encode_anchors(mean_log_probs, self._listed, self._encoding.anchor_step_nats)

    def anchors_off(self, anchors: Mapping[str, torch.Tensor], mean_log_probs: torch.Tensor) -> torch.Tensor:
        return self._anchors(anchors).steps_off(mean_log_probs, self._encoding.anchor_step_nats)

    def encode(
        self,
        log_probs: torch.Tensor,
        sample_ids: np.ndarray,
        view: int,
        anchors: Mapping[str, torch.Tensor] = NO_ANCHORS,
    ) -> dict[str, torch.Tensor]:
        anchor = self._anchors(anchors)
        found = _candidates(log_probs, anchor)
        # 1. The power of the anchor that fits best beside the most likely class.
        shapes = _best_shapes(log_probs, anchor, found)
        powers = log_probs.new_tensor(SHAPES)[shapes]
        # 2. The classes that are worth their bytes, after the first in the order of their places.
        order, used = self._choose(found, powers, anchor)
        classes = found.classes.gather(1, order)
        places = torch.where(used, anchor.places(classes), self._listed + 1)
        last = torch.where(used, places, self._listed + 2)
        last[:, 0] = -1
        by_place = last.argsort(dim=1, stable=True)
        classes, places, used = (part.gather(1, by_place) for part in (classes, places, used))
        # 3. How far they lie from where the rest of the label lets expect them.
        shifts = self._shifts(log_probs, classes, used, powers, anchor)
        codes = (shifts / self._encoding.step_nats).round() + ZERO_SHIFT
        elsewhere = torch.where(used & (places == self._listed), classes, 0)
        return {
            "shapes": shapes[:, None].to(torch.uint8),
            "places": places.to(torch.uint8),
            "shift_codes": torch.where(used, codes.clamp(1, _LARGEST_CODE), 0).to(torch.uint8),
            "elsewhere": elsewhere.to(self._encoding.fields(self.space)["elsewhere"].torch_dtype),
        }

    def decode(self, fields: dict[str, torch.Tensor], temperature: float) -> torch.Tensor:
        anchor = self._anchors(fields)
        # 1. The scores of listed classes and of all others, raised to the label's power.
        codes, places = fields["shift_codes"].long(), fields["places"].long()
        powers = torch.tensor(SHAPES, device=codes.device)[fields["shapes"][:, 0].long()]
        listed, others = anchor.scores * powers[:, None], (anchor.rest * powers)[:, None]
        # 2. The kept classes, shifted: listed ones in their places, the others apart.
        shifts = torch.where(codes > 0, (codes - ZERO_SHIFT).float() * self._encoding.step_nats, 0.0)
        is_listed, is_apart = places < self._listed, places == self._listed
        within = places.clamp(max=self._listed - 1)
        listed = listed.scatter_add(1, within, torch.where(is_listed, shifts, 0.0))
        kept = torch.where(is_apart, others + shifts, listed.gather(1, within))
        # 3. No class is more likely than the first one, whatever rounding did.
        first = kept[:, :1]
        listed, others, kept = (torch.minimum(scores, first - _BELOW_FIRST) for scores in (listed, others, kept))
        listed.scatter_(1, within[:, :1], torch.where(is_listed[:, :1], first, listed.gather(1, within[:, :1])))
        kept[:, 0] = first[:, 0]
        kept = torch.where(is_apart, kept, listed.gather(1, within))
        # 4. Normalised without a pass over all classes, most of which have the same score.
        power = self.space.temperature / temperature
        counts = self.space.num_classes - self._listed - is_apart.sum(dim=1, keepdim=True)
        parts = [listed * power, torch.where(is_apart, kept, -torch.inf) * power, others * power + counts.log()]
        log_mass = torch.cat(parts, dim=1).logsumexp(dim=1, keepdim=True)
        log_probs = (others * power - log_mass).repeat(1, self.space.num_classes)
        log_probs.scatter_(1, anchor.classes, listed * power - log_mass)
        classes = torch.where(is_apart, fields["elsewhere"].long(), anchor.classes_at(places))
        return log_probs.scatter_(1, classes, kept * power - log_mass)

    def _anchors(self, fields: Mapping[str, torch.Tensor]) -> Anchors:
        return Anchors.read(fields, self.space.num_classes, self._encoding.anchor_step_nats)

    def _choose(
        self, found: _Candidates, powers: Float[torch.Tensor, " labels"], anchor: Anchors
    ) -> tuple[Int64[torch.Tensor, "labels kept"], Bool[torch.Tensor, "labels kept"]]:
        """Returns the candidates to keep, one after the other, and which of them are worth it.

        Each is the one that makes the KL smaller by most beside those before it: with the tail's
        mass t, p of it the class's own and q what the anchor gives it, by
        p log(p / q) + (t - p) log((t - p) / (t - q)).
        """
        least = self._encoding.least_gain_nats * torch.where(found.is_listed, 1.0, 2.0)
        probs = found.log_probs.exp()
        shares = (found.expected * powers[:, None] - anchor.log_mass(powers)[:, None]).exp()
        may, left, left_shares = found.may.clone(), torch.ones_like(powers), torch.ones_like(powers)
        chosen, worth = [], [torch.zeros_like(powers)]
        place = torch.zeros_like(found.classes[:, :1])  # the most likely class is always kept
        for _ in range(self._most_kept - 1):
            _take(place, probs, left)
            _take(place, shares, left_shares)
            chosen.append(place)
            may.scatter_(1, place, False)
            gains = _gains(probs, shares, left[:, None], left_shares[:, None])
            gains = torch.where(may, gains, -1.0)
            place = gains.argmax(dim=1, keepdim=True)
            worth.append((gains.gather(1, place) - least.gather(1, place))[:, 0])
        chosen.append(place)
        # As many as are worth most together: a class that gains little may lead to one that gains
        # much.
        together = torch.stack(worth, dim=1).cumsum(dim=1)
        number = torch.arange(self._most_kept, device=powers.device)
        return torch.cat(chosen, dim=1), number[None] <= together.argmax(dim=1, keepdim=True)

    def _shifts(
        self,
        log_probs: Float[torch.Tensor, "labels classes"],
        classes: Int64[torch.Tensor, "labels kept"],
        used: Bool[torch.Tensor, "labels kept"],
        powers: Float[torch.Tensor, " labels"],
        anchor: Anchors,
    ) -> Float[torch.Tensor, "labels kept"]:
        """Returns how much the log-odds of kept classes against all others exceed the anchor's."""
        kept = torch.zeros_like(log_probs, dtype=torch.bool)
        kept.scatter_(1, classes, used)
        scores = anchor.all_scores(powers)
        tail = log_probs.masked_fill(kept, -torch.inf).logsumexp(dim=1, keepdim=True)
        expected_tail = scores.masked_fill(kept, -torch.inf).logsumexp(dim=1, keepdim=True)
        return (log_probs.gather(1, classes) - tail) - (scores.gather(1, classes) - expected_tail)


def _candidates(log_probs: Float[torch.Tensor, "labels classes"], anchor: Anchors) -> _Candidates:
    likely = most_likely(log_probs, min(_LIKELY, log_probs.shape[1] - 1))
    expected = anchor.classes[:, :_EXPECTED]
    again = (expected[:, :, None] == likely[:, None, :]).any(dim=2)
    classes = torch.cat([likely, expected], dim=1)
    scores = anchor.all_scores(log_probs.new_ones(len(log_probs)))
    return _Candidates(
        classes,
        torch.cat([torch.ones_like(likely, dtype=torch.bool), ~again], dim=1),
        log_probs.gather(1, classes),
        scores.gather(1, classes),
        anchor.places(classes) < anchor.classes.shape[1],
    )


def _best_shapes(
    log_probs: Float[torch.Tensor, "labels classes"], anchor: Anchors, found: _Candidates
) -> Int64[torch.Tensor, " labels"]:
    """Returns the power of the anchor, by number, with the smallest KL where only the most likely
    class is kept.
    """
    # All that depends on the power is -power E[score of the tail] + t log(the tail's anchor mass).
    listed = log_probs.gather(1, anchor.classes).exp()
    mean = (listed * anchor.scores).sum(dim=1) + (1 - listed.sum(dim=1)) * anchor.rest
    top, score = found.log_probs[:, 0].exp(), found.expected[:, 0]
    costs = []
    for power in SHAPES:
        powers = torch.full_like(score, power)
        log_mass = anchor.log_mass(powers)
        others = torch.log1p(-(power * score - log_mass).exp().clamp(max=1 - 1e-6))
        costs.append((1 - top) * (log_mass + others) - power * (mean - top * score))
    return torch.stack(costs).argmin(dim=0)


def _gains(
    probs: Float[torch.Tensor, "labels candidates"],
    shares: Float[torch.Tensor, "labels candidates"],
    left: Float[torch.Tensor, "labels 1"],
    left_shares: Float[torch.Tensor, "labels 1"],
) -> Float[torch.Tensor, "labels candidates"]:
    """Returns how much smaller the KL is with one more candidate kept, in nats."""
    left = left.clamp(min=_LEAST)
    given = torch.minimum(left * shares / left_shares.clamp(min=_LEAST), left * (1 - 1e-6)).clamp(min=_LEAST)
    rest, given_rest = (left - probs).clamp(min=_LEAST), (left - given).clamp(min=_LEAST)
    own = probs.clamp(min=_LEAST)
    return own * (own / given).log() + rest * (rest / given_rest).log()


def _take(
    place: Int64[torch.Tensor, "labels 1"],
    parts: Float[torch.Tensor, "labels candidates"],
    left: Float[torch.Tensor, " labels"],
) -> None:
    """Subtracts a candidate's part from what is left, in place."""
    left -= parts.gather(1, place)[:, 0]
