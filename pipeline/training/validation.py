"""The validation split, on which every network is judged after each epoch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn

from pipeline.data.budget import MemoryBudget
from pipeline.data.splits import HardLabels, Split
from pipeline.models.forms import has_maps
from pipeline.models.predict import at_once, predict_each, predict_logits
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.thinning import kept_labels, kept_outputs
from pipeline.training.team import ALONE, Team

EVAL_BATCH_SIZE = 500


@dataclass(frozen=True)
class Validation:
    """A validation split, and the processes that predict it together.

    Args:
        budget: The memory that a split on disk is read by; None where it is in memory.
        device: The device of this process.
    """

    split: Split
    budget: MemoryBudget | None
    device: torch.device
    team: Team = ALONE
    signal: Signal = CATEGORICAL

    def logits(self, model: nn.Module) -> Float[torch.Tensor, "samples classes *grid"]:
        """Returns the logits of all samples, in the split's order, on the CPU; of maps that would
        take too much memory, those at some positions (`pipeline.signals.thinning`).

        Each process predicts its share; all of them get the whole.
        """
        size = at_once(EVAL_BATCH_SIZE, self.signal, self.split.input_shape)
        own = self.split.in_order(size, self.team.share.of(len(self.split)), self.budget)
        if not has_maps(self.signal):
            return self.team.join_rows(predict_logits(model, own, self.device), len(self.split))
        pieces = predict_each(model, own, self.device)
        kept = torch.cat([kept_outputs(some, len(self.split)).cpu() for some in pieces])
        return self.team.join_rows(kept, len(self.split))

    def hard_labels(self, logits: Float[torch.Tensor, "samples classes *grid"]) -> HardLabels:
        """Returns the hard labels of all samples, at the positions of their logits."""
        return kept_labels(self.split.hard_labels, logits.shape[1])

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Returns the signal's figures, the one by which networks are compared first."""
        logits = self.logits(model)
        return self.signal.metrics(logits, self.hard_labels(logits))
