"""The embedding of a network: what its last layer is given, pooled over positions, or what a
network of the user's gives under that name.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.models.classifier import EMBEDDING, LOGITS, Classifier
from pipeline.models.forms import has_maps

Inputs = Integer[torch.Tensor, "batch ..."]
_FIX = f"take another network, or a file of your own that returns {{{LOGITS!r}: ..., {EMBEDDING!r}: ...}}"


class Embedded(nn.Module):
    """A classifier that gives its embedding beside the logits.

    Hooks stand only for the time of a pass, so that copies of it are on their own.

    Args:
        head: The name of the layer whose inputs are the embedding; None: the network names it.
    """

    def __init__(self, classifier: Classifier, head: str | None) -> None:
        super().__init__()
        self.classifier, self._head = classifier, head
        self.train(classifier.training)

    @classmethod
    def of(cls, classifier: Classifier, blank: torch.Tensor, head: Callable[[], frozenset[str]]) -> "Embedded":
        """Returns a network with its embedding.

        Raises ModelError where it has none, or one for each pixel.

        Args:
            blank: A sample as the network takes them.
            head: Returns the names of the bare network's tensors that depend on the number of
                classes; raises ModelError where there are none.
        """
        if has_maps(classifier.signal):
            found_maps = "gives a class for each pixel, and an embedding is of an image"
            raise ModelError(
                f"model {classifier.name!r}", found_maps, fix="leave out the rows and features of embeddings"
            )
        found: list[Any] = []
        with _watching(classifier.network, None, found), torch.no_grad():
            was_training = classifier.training
            classifier.eval()(_beside(classifier, blank))
            classifier.train(was_training)
        named = isinstance(found[0], Mapping) and EMBEDDING in found[0]
        return cls(classifier, None if named else _head_layer(head, classifier.name))

    def forward(self, inputs: Inputs) -> tuple[Float[torch.Tensor, "batch classes"], Float[torch.Tensor, "batch _"]]:
        """Returns the logits and the embedding, both in float32."""
        found: list[Any] = []
        network = self.classifier.network
        with _watching(network, self._head, found):
            logits = self.classifier(inputs)
        given = found[-1][EMBEDDING] if self._head is None else found[-1]
        return logits, _pooled(given, network, self._head, len(inputs), self.classifier.name)

    @torch.no_grad()
    def size(self, blank: torch.Tensor) -> int:
        """Returns the number of dimensions of the embedding, given a sample."""
        was_training = self.training
        self.eval()
        dimensions = self(_beside(self.classifier, blank))[1].shape[1]
        self.train(was_training)
        return int(dimensions)


class Columns(nn.Module):
    """A network whose outputs are the logits and, after them, the embedding: one tensor."""

    def __init__(self, embedded: Embedded) -> None:
        super().__init__()
        self._embedded = embedded

    def forward(self, inputs: Inputs) -> Float[torch.Tensor, "batch columns"]:
        return torch.cat(self._embedded(inputs), dim=1)


def _beside(classifier: Classifier, blank: torch.Tensor) -> torch.Tensor:
    return blank.to(next(chain(classifier.parameters(), classifier.buffers())).device)


def _head_layer(head: Callable[[], frozenset[str]], name: str) -> str:
    """Returns the name of the bare network's last layer; raises ModelError where it has none, or
    several.
    """
    where = f"model {name!r}"
    try:
        names = head()
    except ModelError:
        raise ModelError(where, "has no layer whose inputs are its embedding", fix=_FIX) from None
    layers = sorted({name.rpartition(".")[0] for name in names})
    if len(layers) > 1 or not layers[0]:
        found = f"has {len(layers)} last layers ({', '.join(layers)})" if layers[0] else "its last layer has no name"
        raise ModelError(where, found, expected="one, whose inputs are the embedding", fix=_FIX)
    return layers[0]


@contextmanager
def _watching(network: nn.Module, head: str | None, found: list[Any]) -> Iterator[None]:
    """Adds what the network gives, or what its last layer is given, to a list."""
    if head is None:
        handle = network.register_forward_hook(lambda module, inputs, outputs: found.append(outputs))
    else:
        layer = network.get_submodule(head)
        handle = layer.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def _pooled(given: Any, network: nn.Module, head: str | None, count: int, name: str) -> torch.Tensor:
    """Returns an embedding as one row for each image: the mean over positions."""
    if not isinstance(given, torch.Tensor) or given.ndim < 2 or len(given) != count:
        found = f"of shape {list(given.shape)}" if isinstance(given, torch.Tensor) else f"a {type(given).__name__}"
        raise ModelError(f"model {name!r}", f"its embedding is {found}", expected=f"[{count}, dimensions]")
    vectors: torch.Tensor = given.float()
    if vectors.ndim == 2:
        return vectors
    if head is not None and isinstance(network.get_submodule(head), nn.Linear):  # channels are last
        return vectors.flatten(1, -2).mean(dim=1)
    return vectors.flatten(2).mean(dim=2)
