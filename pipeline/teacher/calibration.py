"""The calibration temperature of a classifier."""

import torch
from jaxtyping import Float, Int64

_STEPS = 100
_TOLERANCE = 1e-10
_SHARPEST, _FLATTEST = 20.0, 0.05


def fit_temperature(
    logits: Float[torch.Tensor, "samples classes"], hard_labels: Int64[torch.Tensor, " samples"]
) -> float:
    """The temperature in [0.05, 20] that minimises the NLL of softmax(logits / temperature) on held-out samples.

    The NLL is convex in 1 / temperature, so its slope has one sign change, which bisection finds.

    References:
        Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Q. Weinberger, "On Calibration of Modern Neural Networks", 2017,
        arXiv 1706.04599, section 4.2.
    """
    scores = logits.double()
    at_label = scores.gather(1, hard_labels[:, None]).mean()

    def slope(inverse: float) -> float:
        expected = (torch.softmax(scores * inverse, dim=1) * scores).sum(dim=1).mean()
        return float(expected - at_label)

    low, high = 1 / _SHARPEST, 1 / _FLATTEST
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
        if high - low < _TOLERANCE:
            break
    return 2 / (low + high)
