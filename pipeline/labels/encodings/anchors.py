"""An anchor: the classes that are likely in a sample's first views, in coarse steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from pipeline.labels.encodings.base import Field, LabelSpace, smallest_unsigned
from pipeline.labels.encodings.tail import most_likely

_LARGEST_STEP = 254  # a byte's largest number is the fill value
BASE = 255  # of the two digits of a distance between classes: each below the fill value


def anchor_fields(space: LabelSpace, listed: int) -> dict[str, Field]:
    """Returns the arrays that hold anchors of so many classes.

    `anchor_gaps` and `anchor_gap_highs` are the two digits of each class's distance to the one
    before, by number, from -1 on: apart, because they compress better so. `anchor_steps` are the
    steps by which these classes, and last the mean of all others, lie below the likeliest."""
    highs = smallest_unsigned(space.num_classes // BASE + 1)
    byte = np.dtype(np.uint8)
    return {
        "anchor_gaps": Field((listed,), byte, 255),
        "anchor_gap_highs": Field((listed,), highs, int(np.iinfo(highs).max), most=space.num_classes // BASE),
        "anchor_steps": Field((listed + 1,), byte, 255),
    }


def encode_anchors(
    mean_log_probs: Float[torch.Tensor, "samples classes"], listed: int, step_nats: float
) -> dict[str, UInt8[torch.Tensor, "samples ..."]]:
    """Returns the arrays of `anchor_fields` for normalised log-probabilities."""
    num_classes = mean_log_probs.shape[1]
    # 1. The most likely classes, by number, and the mean of all others.
    classes = most_likely(mean_log_probs, listed)
    others = mean_log_probs.scatter(1, classes, -torch.inf).logsumexp(dim=1, keepdim=True)
    others = others - math.log(num_classes - listed)
    best = mean_log_probs.gather(1, classes[:, :1])
    classes = classes.sort(dim=1).values
    # 2. How far each lies below the first one, and from the class before.
    values = torch.cat([mean_log_probs.gather(1, classes), others], dim=1)
    steps = ((best - values) / step_nats).round().clamp(0, _LARGEST_STEP)
    gaps = torch.diff(classes, dim=1, prepend=torch.full_like(classes[:, :1], -1))
    highs = anchor_fields(LabelSpace(num_classes, 1.0, (1.0,)), listed)["anchor_gap_highs"].torch_dtype
    return {
        "anchor_gaps": (gaps % BASE).to(torch.uint8),
        "anchor_gap_highs": (gaps // BASE).to(highs),
        "anchor_steps": steps.to(torch.uint8),
    }


@dataclass(frozen=True)
class Anchors:
    """The anchors of some labels, one for each.

    Attributes:
        classes: The listed classes, the likeliest first, by number among equals.
        scores: Their log-probabilities, 0 for the likeliest.
        rest: The score of every other class.
    """

    classes: Int64[torch.Tensor, "labels listed"]
    scores: Float[torch.Tensor, "labels listed"]
    rest: Float[torch.Tensor, " labels"]
    num_classes: int

    @classmethod
    def read(cls, fields: Mapping[str, torch.Tensor], num_classes: int, step_nats: float) -> "Anchors":
        """Reads the arrays of `anchor_fields`."""
        gaps = fields["anchor_gaps"].long() + fields["anchor_gap_highs"].long() * BASE
        # A store from elsewhere may have distances that lead past the last class.
        classes = (gaps.cumsum(dim=1) - 1).clamp(0, num_classes - 1)
        steps = fields["anchor_steps"]
        order = steps[:, :-1].argsort(dim=1, stable=True)
        scores = steps[:, :-1].gather(1, order).float() * -step_nats
        return cls(classes.gather(1, order), scores, steps[:, -1].float() * -step_nats, num_classes)

    def steps_off(
        self, mean_log_probs: Float[torch.Tensor, "labels classes"], step_nats: float
    ) -> Float[torch.Tensor, " labels"]:
        """Returns by how many steps each anchor is off at most, were it made of these.

        Half a step is rounding. Which of two about equally likely classes is listed decides
        nothing: listed ones are compared with their own log-probabilities, and the likeliest of the
        others with the least likely listed one.
        """
        listed = mean_log_probs.gather(1, self.classes)
        others = mean_log_probs.scatter(1, self.classes, -torch.inf)
        rest = others.logsumexp(dim=1, keepdim=True) - math.log(self.num_classes - self.classes.shape[1])
        below = torch.cat([listed, rest], dim=1) - mean_log_probs.amax(dim=1, keepdim=True)
        stored = torch.cat([self.scores, self.rest[:, None]], dim=1)
        differences = (below.clamp(min=-_LARGEST_STEP * step_nats) - stored).abs().amax(dim=1)
        return torch.maximum(differences, others.amax(dim=1) - listed.amin(dim=1)) / step_nats

    def all_scores(self, powers: Float[torch.Tensor, " labels"]) -> Float[torch.Tensor, "labels classes"]:
        """Returns the scores of all classes, each label's times its power."""
        scores = (self.rest * powers)[:, None].repeat(1, self.num_classes)
        return scores.scatter_(1, self.classes, self.scores * powers[:, None])

    def log_mass(self, powers: Float[torch.Tensor, " labels"]) -> Float[torch.Tensor, " labels"]:
        """Returns the logsumexp of `all_scores`."""
        others = self.rest * powers + math.log(self.num_classes - self.classes.shape[1])
        return torch.logaddexp((self.scores * powers[:, None]).logsumexp(dim=1), others)

    def places(self, classes: Int64[torch.Tensor, "labels some"]) -> Int64[torch.Tensor, "labels some"]:
        """Returns the place of each class in its anchor; for others, the number of listed ones."""
        found = self.classes[:, None, :] == classes[:, :, None]
        return torch.where(found.any(dim=2), found.int().argmax(dim=2), self.classes.shape[1])

    def classes_at(self, places: Int64[torch.Tensor, "labels some"]) -> Int64[torch.Tensor, "labels some"]:
        """Returns the classes at some places; the last listed one at those beyond."""
        return self.classes.gather(1, places.clamp(max=self.classes.shape[1] - 1))
