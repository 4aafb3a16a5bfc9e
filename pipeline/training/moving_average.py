"""The moving average of a network's weights, which is what is validated and kept.

torch's `AveragedModel` walks through all modules of both networks at every step: 8% of a step of
the smallest default student, and on a GPU time in which it waits. Here all is listed once:
parameters as they are, buffers by the module that owns them, which may put another tensor in the
place of one. They come to the same bits.
"""

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import nn


class MovingAverage:
    """A copy of a network that follows it.

    After n updates it goes 1 - min(decay, (1 + n) / (10 + n)) of the way, so that it soon
    forgets where it started; the first update makes it the same. Buffers of whole numbers are
    copied.

    References:
        Boris T. Polyak, Anatoli B. Juditsky, "Acceleration of Stochastic Approximation by
        Averaging", SIAM J. Control Optim. 30(4), 1992.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self._decay, self._updates = decay, 0
        self._parameters = list(zip(self.model.parameters(), model.parameters(), strict=True))
        self._buffers: list[tuple[dict[str, Any], dict[str, Any], str]] = [
            (ours._buffers, theirs._buffers, name)
            for ours, theirs in zip(self.model.modules(), model.modules(), strict=True)
            for name, buffer in theirs._buffers.items()
            if buffer is not None
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Follows the network after one of its steps."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for dtype, (averaged, current) in self._pairs().items():
            if self._updates and dtype.is_floating_point:
                torch._foreach_lerp_(averaged, current, 1 - decay)
            else:
                torch._foreach_copy_(averaged, current)
        self._updates += 1

    def _pairs(self) -> dict[torch.dtype, tuple[list[torch.Tensor], list[torch.Tensor]]]:
        """Returns the tensors of both by their type: many at once are quick."""
        pairs: dict[torch.dtype, tuple[list[torch.Tensor], list[torch.Tensor]]] = defaultdict(lambda: ([], []))
        for averaged, current in (*self._parameters, *((ours[n], theirs[n]) for ours, theirs, n in self._buffers)):
            pairs[averaged.dtype][0].append(averaged)
            pairs[averaged.dtype][1].append(current)
        return pairs

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._updates = state["updates"]
