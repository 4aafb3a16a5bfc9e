"""Batches: what is in one, which part of it is a process's, how many an epoch has."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer, Shaped


@dataclass(frozen=True)
class Batch:
    """A batch of views, and their hard labels as a split has them.

    Where views are mixed of two samples, `partner_labels` are the hard labels of the second ones
    and `own_shares` (0.5 to 1) the weights of the first.
    """

    inputs: Integer[torch.Tensor, "batch ..."]
    hard_labels: Shaped[torch.Tensor, "batch ..."]
    partner_labels: Shaped[torch.Tensor, "batch ..."] | None = None
    own_shares: Float[torch.Tensor, " batch"] | None = None


@dataclass(frozen=True)
class Share:
    """The part of every batch that is one process's, of several that train one network.

    A single process has the whole.

    Shares are of consecutive places, and as even as can be.
    """

    rank: int = 0
    world: int = 1

    def of(self, count: int) -> slice:
        """Returns its places among `count`."""
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def size(self, count: int) -> int:
        """Returns the number of its places."""
        places = self.of(count)
        return int(places.stop - places.start)

    def weight(self, count: int) -> float:
        """Returns the factor for a mean over its places.

        With it, the mean over the processes is the mean over all places.
        """
        return self.size(count) * self.world / count


WHOLE = Share()


def num_steps(num_samples: int, batch_size: int) -> int:
    """Returns the steps in a training epoch.

    They are whole batches only, but at least one: a rest of one sample would upset batch norm.
    """
    return max(1, num_samples // batch_size)
