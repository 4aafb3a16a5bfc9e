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
    copied, and so is what holds infinite values (the mask of an attention): their average would be
    NaN.

    References:
        Boris T. Polyak, Anatoli B. Juditsky, "Acceleration of Stochastic Approximation by
        Averaging", SIAM J. Control Optim. 30(4), 1992.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self._decay, self._updates = decay, 0
        self._parameters = [
            (_is_averaged(theirs), ours, theirs)
            for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True)
        ]
        self._buffers: list[tuple[bool, dict[str, Any], dict[str, Any], str]] = [
            (_is_averaged(buffer), ours._buffers, theirs._buffers, name)
            for ours, theirs in zip(self.model.modules(), model.modules(), strict=True)
            for name, buffer in theirs._buffers.items()
            if buffer is not None
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Follows the network after one of its steps."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for (_, is_averaged), (averaged, current) in self._pairs().items():
            if self._updates and is_averaged:
                torch._foreach_lerp_(averaged, current, 1 - decay)
            else:
                torch._foreach_copy_(averaged, current)
        self._updates += 1

    def _pairs(self) -> dict[tuple[torch.dtype, bool], tuple[list[torch.Tensor], list[torch.Tensor]]]:
        """Returns the tensors of both by their type, and whether they are averaged: many at once
        are quick.
        """
        buffers = ((is_averaged, ours[n], theirs[n]) for is_averaged, ours, theirs, n in self._buffers)
        pairs: dict[tuple[torch.dtype, bool], tuple[list[torch.Tensor], list[torch.Tensor]]]
        pairs = defaultdict(lambda: ([], []))
        for is_averaged, averaged, current in (*self._parameters, *buffers):
            ours, theirs = pairs[averaged.dtype, is_averaged]
            ours.append(averaged)
            theirs.append(current)
        return pairs

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._updates = state["updates"]


def _is_averaged(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())
