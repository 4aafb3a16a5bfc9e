"""Exceptions that a network's own code raises, as one line: which layer, which line of the user's
file.
"""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from torch import nn

from pipeline.core.errors import ModelError, PipelineError, placed
from pipeline.core.shortage import is_out_of_memory
from pipeline.models import user_file
from pipeline.models.norms import single_value


@contextmanager
def naming_faults(model: nn.Module, where: object = "") -> Iterator[None]:
    """Turns an exception of a network's own code into a ModelError that names the code.

    Any other exception is a fault of this project, and keeps its traceback; a lack of memory is
    neither.

    Args:
        where: The network's place in `params.yaml`, where it is known.
    """
    try:
        with placed(where):
            yield
    except Exception as error:
        place = None if _is_for_others(error) else place_of(traceback.walk_tb(error.__traceback__), model)
        if place is None:
            raise
        prefix = f"{where}: " if where else ""
        found, fix = single_value(error) or (f"fails ({reason(error)})", "")
        raise ModelError(f"{prefix}{place}", found, fix=fix) from error


def _is_for_others(error: Exception) -> bool:
    """Returns whether others explain an error: memory that lacks, or torch's compiler."""
    by_compiler = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
    return isinstance(error, PipelineError) or by_compiler or is_out_of_memory(error)


def place_of(frames: Iterable[tuple[FrameType, int]], model: nn.Module) -> str | None:
    """Returns a network's name, with the innermost line of its own file and the innermost layer
    among some frames; None where neither is there.
    """
    network = getattr(model, "network", model)
    layers = {id(module): (name, type(module).__name__) for name, module in network.named_modules()}
    line = layer = None
    for frame, number in frames:
        if frame.f_globals.get("__name__") == user_file.MODULE:
            line = number
        layer = layers.get(id(frame.f_locals.get("self")), layer)
    if line is None and layer is None:
        return None
    parts = [f"model {getattr(model, 'name', type(network).__name__)!r}"]
    parts += [f"line {line}"] if line else []
    parts += [f"layer {layer[0]!r} ({layer[1]})"] if layer and layer[0] else []
    return ", ".join(parts)


def reason(error: Exception) -> str:
    """Returns the kind of an exception and the first line of its message."""
    return f"{type(error).__name__}: {' '.join(str(error).splitlines()[:1])[:200]}"
