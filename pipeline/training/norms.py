"""Norms that are given a single value, of which there is neither a mean nor a variance."""

import re

from torch import nn

from pipeline.core.errors import ModelError

# torch's words, from batch norm, group norm and instance norm alike.
_SINGLE = re.compile(r"Expected more than 1 (value per channel|spatial element) when training, got input size (.*)")


def single_value_error(error: ValueError, model: nn.Module, where: str) -> ModelError | None:
    """Returns the error of a norm that got a single value, with its name; None for another one."""
    said = _SINGLE.search(str(error))
    if said is None:
        return None
    size = [int(number) for number in re.findall(r"\d+", said[2])]
    images = f"a batch of {size[0]}, each image shrunk to {' x '.join(map(str, size[2:])) or 'one value'}"
    return ModelError(
        where,
        f"{_layer(error, model)} gets a single value of each channel ({images})",
        expected="several, which have a variance",
        fix="raise fit.batch_size, or shrink images less: a larger input: {size_px: ...}, or fewer layers that halve them",
    )


def _layer(error: ValueError, model: nn.Module) -> str:
    """Returns the layer whose code an error came through last."""
    names = {id(module): f"layer {name!r}" for name, module in model.named_modules() if name}
    found, trace = "a norm", error.__traceback__
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found
