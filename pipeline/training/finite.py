"""A watch over the losses and gradients of a run, which waits for no device at each step."""

import math
import time

import torch
from jaxtyping import Float

from pipeline.training.team import Team

LOOK_EVERY = 100  # updates
_SECONDS = 10.0  # of fewer, slower updates


class FiniteWatch:
    """A number on the device that is 0 as long as every gradient was a finite number.

    What is no finite number makes it NaN, and NaN it stays. So it is enough to read it now and
    then: to read it is to wait for the device.
    """

    def __init__(self, team: Team, device: torch.device) -> None:
        self._team = team
        self._zero = torch.zeros((), device=device)
        self._updates, self._looked_at = 0, time.monotonic()

    def note(self, norm: Float[torch.Tensor, ""]) -> None:
        """Notes the norm of all gradients of an update."""
        self._zero.add_(norm, alpha=0)
        self._updates += 1

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again.

        Several processes look together, so that their clocks decide nothing.
        """
        late = self._team.world == 1 and time.monotonic() - self._looked_at > _SECONDS
        return late or self._updates >= LOOK_EVERY

    def finds_fault(self, loss_sum: Float[torch.Tensor, ""]) -> bool:
        """Returns whether a gradient, or a loss of this sum, was no finite number in any
        process.
        """
        self._updates, self._looked_at = 0, time.monotonic()
        return not math.isfinite(float(self._team.mean(loss_sum + self._zero)))
