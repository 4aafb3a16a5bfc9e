"""Norms that are given a single value, of which there is neither a mean nor a variance."""

import re

# torch's words, from batch norm, group norm and instance norm alike.
_SINGLE = re.compile(r"Expected more than 1 (value per channel|spatial element) when training, got input size (.*)")
_FIX = "raise fit.batch_size, or shrink images less: a larger input: {size_px: ...}, or fewer layers that halve them"


def single_value(error: Exception) -> tuple[str, str] | None:
    """Returns what happened to a norm that got a single value, and what to do; None for another
    error.
    """
    said = _SINGLE.search(str(error))
    if said is None:
        return None
    size = [int(number) for number in re.findall(r"\d+", said[2])]
    images = f"a batch of {size[0]}, each image shrunk to {' x '.join(map(str, size[2:])) or 'one value'}"
    return f"gets a single value of each channel ({images}); expected several, which have a variance", _FIX
