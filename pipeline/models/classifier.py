"""A network with all that stands between samples and the logits of this data's classes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int64, Integer
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.models.forms import at_pixels, check_form, has_maps
from pipeline.models.output_kinds import OutputKind, as_logits, mark_of
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL


class Outputs(NamedTuple):
    """The meaning of a network's outputs.

    Attributes:
        groups: For each class the outputs that stand for it; None: output and class number are the
            same.
        signal: The meaning of the logits.
    """

    groups: Sequence[Sequence[int]] | None = None
    kind: OutputKind = "logits"
    signal: Signal = CATEGORICAL


PLAIN = Outputs()


@dataclass(frozen=True)
class Portable:
    """A network as runtimes other than torch have it.

    Attributes:
        network: Traceable: a look-up of words is not in it.
        input_name: The name of its one input.
        taken: Returns what it takes for some samples.
        open_axes: The axes of its input beside the batch that are of any length, by number.
        most: The greatest length of these.
        facts: What else is to be known to make its input, as plain JSON.
        files: What is to lie beside it for that, by name.
    """

    network: "Classifier"
    input_name: str
    taken: Callable[[torch.Tensor], torch.Tensor]
    open_axes: Mapping[int, str] = field(default_factory=dict)
    most: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


#: What a network that gives several things calls them.
LOGITS, EMBEDDING = "logits", "embedding"
_OF_TORCHVISION = "out"  # the logits of its segmentation networks


class Classifier(nn.Module, ABC):
    """A network that takes samples as they are stored and gives a logit per class of the data, for
    the sample or at each pixel of an image.

    It carries what stands between samples and its network, and the meaning of the network's
    outputs. All of these are buffers: they are part of the weights, and of their fingerprint.

    Attributes:
        name: The network's name, for messages.
        meaning: Of its outputs; `signal` is that of its logits.
    """

    name = "of no name"
    #: The name of its samples in exported files.
    input_name: ClassVar[str]
    class_outputs: torch.Tensor

    def __init__(self, network: nn.Module, outputs: Outputs = PLAIN) -> None:
        super().__init__()
        self.network = network
        self.meaning = outputs
        self._kind, self._joins, self.signal = outputs.kind, outputs.groups is not None, outputs.signal
        if outputs.groups is not None:
            self.register_buffer("class_outputs", group_table(outputs.groups))
        if (mark := mark_of(outputs.kind)) is not None:
            self.register_buffer("output_kind", mark)

    @abstractmethod
    def to_network(self, inputs: Integer[torch.Tensor, "batch ..."]) -> torch.Tensor:
        """Returns what the network takes for some samples."""

    def portable(self) -> Portable:
        """Returns the network as runtimes other than torch have it."""
        return Portable(self, self.input_name, lambda inputs: inputs)

    def forward(self, inputs: Integer[torch.Tensor, "batch ..."]) -> Float[torch.Tensor, "batch classes *grid"]:
        return self.to_logits(self.outputs(inputs))

    def outputs(self, inputs: Integer[torch.Tensor, "batch ..."]) -> Float[torch.Tensor, "batch outputs *grid"]:
        """Returns the outputs as the network gives them, of whatever kind; where there is one for
        each pixel, of the image as it came.

        Raises ModelError where they are of another form than the signal's.
        """
        taken = self.to_network(inputs)
        outputs = self.network(taken)
        if isinstance(outputs, Mapping):
            outputs = outputs.get(LOGITS, outputs.get(_OF_TORCHVISION))
        if not isinstance(outputs, torch.Tensor):
            found = f"gives a {type(outputs).__name__}"
            raise ModelError(
                f"model {self.name!r}", found, expected="one tensor of logits per batch, or a dict with `logits`"
            )
        check_form(outputs, self.signal, self.name)
        if has_maps(self.signal):
            return at_pixels(outputs.float(), taken.shape[2:], inputs.shape[2:], self.name)
        return outputs.float()

    def to_logits(
        self, outputs: Float[torch.Tensor, "batch outputs *grid"]
    ) -> Float[torch.Tensor, "batch classes *grid"]:
        """Returns the logits of the classes for what the network gave."""
        logits = as_logits(outputs, self._kind)
        return join_outputs(logits, self.class_outputs) if self._joins else logits


def group_table(groups: Sequence[Sequence[int]]) -> Int64[torch.Tensor, "classes most"]:
    """Returns groups of outputs as one table; -1 stands where a group has no more."""
    most = max(len(group) for group in groups)
    return torch.tensor([[*group, *[-1] * (most - len(group))] for group in groups])


def join_outputs(
    logits: Float[torch.Tensor, "batch outputs *grid"], table: Int64[torch.Tensor, "classes most"]
) -> Float[torch.Tensor, "batch classes *grid"]:
    """Returns logits of classes, each of which is several outputs together.

    Probabilities add up, so logits go by log-sum-exp.

    Outputs of no class are left out: what is told apart is the data's classes, given that it is one
    of them.
    """
    empty = (table < 0).reshape(*table.shape, *[1] * (logits.ndim - 2))
    return logits[:, table.clamp(min=0)].masked_fill(empty, -torch.inf).logsumexp(dim=2)
