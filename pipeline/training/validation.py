"""The validation split, on which every network is judged after each epoch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn

from pipeline.data.budget import MemoryBudget
from pipeline.data.splits import Split
from pipeline.models.predict import predict_logits
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL
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

    def logits(self, model: nn.Module) -> Float[torch.Tensor, "samples classes"]:
        """Returns the logits of all samples, in the split's order, on the CPU.

        Each process predicts its share; all of them get the whole.
        """
        own = self.split.in_order(EVAL_BATCH_SIZE, self.team.share.of(len(self.split)), self.budget)
        return self.team.join_rows(predict_logits(model, own, self.device), len(self.split))

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Returns the signal's figures, the one by which networks are compared first."""
        return self.signal.metrics(self.logits(model), self.split.hard_labels)
