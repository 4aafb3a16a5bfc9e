"""A teacher of the caller's own: any function from a batch of images to logits."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.core.files import fingerprint
from pipeline.models.output_kinds import are_distributions

_TRIED_VALUES = 16  # of a trial's logits, by which a teacher is known again
_STEPS = 64  # up to the largest: far coarser than what another number of threads changes


class OwnTeacher(nn.Module):
    """A teacher as a network from uint8 views to logits.

    Args:
        teacher: A module, or any function of a batch of views that returns logits [views, classes],
            or something with an attribute `logits`.
        normalise: Called with the uint8 views first; None: the teacher takes them as they are.
    """

    def __init__(self, teacher: Callable[..., Any], normalise: Callable[[Any], Any] | None) -> None:
        super().__init__()
        self._teacher, self._normalise = teacher, normalise
        self.name = getattr(teacher, "__qualname__", type(teacher).__qualname__)

    @property
    def device(self) -> torch.device:
        """The device of the teacher's parameters; the CPU where it has none."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def forward(self, views: UInt8[torch.Tensor, "batch channels height width"]) -> torch.Tensor:
        """Returns the teacher's logits."""
        made = self._teacher(views if self._normalise is None else self._normalise(views))
        logits = getattr(made, "logits", made)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(views):
            found = f"returned {list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__}"
            raise ModelError(self.name, found, expected=f"logits [{len(views)}, classes]")
        return logits

    @torch.no_grad()
    def tried(self, images: UInt8[torch.Tensor, "batch channels height width"]) -> Float[torch.Tensor, "batch classes"]:
        """Returns the logits of a few images; raises ModelError where it can't take them, or they
        are none.
        """
        was_training = self.training
        self.eval()
        try:
            logits: torch.Tensor = self(images.to(self.device)).float().cpu()
        except (RuntimeError, TypeError, ValueError) as error:
            lines = str(error).splitlines() or [""]
            fix = "give `normalise`, which makes of uint8 views what your teacher takes"
            found = f"fails on views of shape {list(images.shape)}{self._normalised(images)} ({lines[0]})"
            raise ModelError(self.name, found, fix=fix) from error
        finally:
            self.train(was_training)
        if not torch.isfinite(logits).all():
            raise ModelError(self.name, "its outputs are NaN or infinite", expected="finite logits")
        if are_distributions(logits):
            found = "its outputs look like probabilities: each row sums up to 1"
            fix = "have it return what comes before the softmax, or the logarithm of its outputs"
            raise ModelError(self.name, found, expected="logits", fix=fix)
        return logits

    def _normalised(self, images: torch.Tensor) -> str:
        """Returns the shape that `normalise` makes of views, for a message; nothing where it makes
        none.
        """
        try:
            made = None if self._normalise is None else self._normalise(images.to(self.device))
        except (RuntimeError, TypeError, ValueError):
            return ", in `normalise`"
        return f", normalised to {list(made.shape)}" if isinstance(made, torch.Tensor) else ""

    def fingerprint(self, logits: Float[torch.Tensor, "batch classes"]) -> str:
        """Returns what a teacher is known by: its name, its weights, and what it predicts for a
        few images.

        Args:
            logits: Those of a few images.
        """
        some = logits.flatten()[:_TRIED_VALUES].double()
        largest = some.abs().max().clamp(min=1e-9)
        steps = torch.cat([some / largest, largest.log2()[None]]) * _STEPS
        return fingerprint([self.name, self._weights(), steps.round().int().tolist()])

    def _weights(self) -> str:
        digest = hashlib.sha256()
        for name, values in self.state_dict().items():
            digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
            digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
