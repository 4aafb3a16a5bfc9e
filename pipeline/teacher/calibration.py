"""The calibration of a teacher: its temperature, and its figures before and after."""

import math
from typing import Any

from torch import nn

from pipeline.core.progress import progress, say
from pipeline.signals import HardLabels, Outputs, Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.chance import chance_line, check_learned
from pipeline.signals.thinning import kept_labels, kept_outputs
from pipeline.teacher.class_temperatures import compare_temperatures
from pipeline.teacher.outputs import ImportedOutputs
from pipeline.training.validation import Validation

_TOLERANCE = 1e-10
_MOST_VALUES = 1 << 23  # of maps, which decide on one number: 38 passes over them take seconds
_SHARPEST, _FLATTEST = 20.0, 0.05


def calibrate(model: nn.Module, validation: Validation, imported: ImportedOutputs | None) -> dict[str, Any]:
    """Returns the figures of a teacher on the validation split, with its calibration temperature.

    Args:
        imported: The outputs of a network that learned elsewhere; None: it was trained from
            nothing.

    Raises:
        ModelError: An imported network's outputs are in another order, or no better than chance; or
            a network that was trained from nothing has learned nothing.
    """
    logits, signal = validation.logits(model), validation.signal
    hard_labels = validation.hard_labels(logits)
    if imported:
        imported.check(logits, hard_labels)
    else:
        check_learned(logits, hard_labels, "train_teacher", signal)
    temperature = fit_temperature(logits, hard_labels, signal)
    before, after = (signal.metrics(each, hard_labels) for each in (logits, logits / temperature))
    say(
        f"train_teacher: val {signal.headline_words} {before[signal.headline]:.2%}, calibration temperature {temperature:.3f}: "
        f"NLL {before['nll']:.4f} -> {after['nll']:.4f}, ECE {before['ece']:.4f} -> {after['ece']:.4f}"
    )
    if line := chance_line(before[signal.headline], hard_labels, signal):
        say(f"train_teacher: {line}")
    calibrated = {name: after[name] for name in ("nll", "ece", "brier") if name in after}
    by_class = compare_temperatures(logits, hard_labels, signal, fit_temperature)
    return {**before, "calibration_temperature": temperature, "calibrated": calibrated, **by_class}


def fit_temperature(outputs: Outputs, hard_labels: HardLabels, signal: Signal = CATEGORICAL) -> float:
    """Returns the temperature in [0.05, 20] that gives held-out samples the lowest NLL.

    The NLL is convex in 1 / temperature, so its slope changes its sign once, and bisection finds
    where. Of maps of many pixels, some pixels stand for all.

    References:
        Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Q. Weinberger, "On Calibration of Modern Neural
        Networks", 2017, arXiv 1706.04599, section 4.2.
    """
    known = kept_labels(hard_labels, outputs.shape[1], _MOST_VALUES)
    some = kept_outputs(outputs, len(outputs), _MOST_VALUES)

    def slope(inverse: float) -> float:
        return signal.nll_slope(some, known, inverse)

    low, high = 1 / _SHARPEST, 1 / _FLATTEST
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    steps = math.ceil(math.log2((high - low) / _TOLERANCE))
    with progress("calibration temperature", steps, "step") as on_steps:
        for _ in range(steps):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) < 0 else (low, middle)
            on_steps(1)
    return 2 / (low + high)
