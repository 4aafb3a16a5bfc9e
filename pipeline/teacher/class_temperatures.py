"""A calibration temperature for each independent class, where held-out samples show it better."""

from collections.abc import Callable
from typing import Any

import torch

from pipeline.core.progress import say
from pipeline.signals import HardLabels, Outputs, Signal

Fit = Callable[[Outputs, HardLabels, Signal], float]


def compare_temperatures(outputs: Outputs, hard_labels: HardLabels, signal: Signal, fit: Fit) -> dict[str, Any]:
    """Returns the NLL of held-out samples with one temperature and with one for each class, and the
    latter where they are better: `class_temperatures`.

    Each half of the samples is judged by what was fitted to the other half: more temperatures
    always fit their own samples better. For classes that share one softmax there is one alone, and
    nothing is returned.
    """
    if not signal.is_independent or outputs.shape[1] == 1:
        return {}
    half = torch.arange(len(outputs)) % 2 == 0
    shared, by_class = 0.0, 0.0
    for fitted, judged in ((half, ~half), (~half, half)):
        one = fit(outputs[fitted], hard_labels[fitted], signal)
        each = _each(outputs[fitted], hard_labels[fitted], signal, fit)
        shared += _nll(outputs[judged] / one, hard_labels[judged], signal) / 2
        by_class += _nll(outputs[judged] / each, hard_labels[judged], signal) / 2
    better = by_class < shared
    say(
        f"train_teacher: held-out NLL {shared:.4f} with one temperature, {by_class:.4f} with one for each class: "
        f"{'one for each class' if better else 'one'} is kept"
    )
    found: dict[str, Any] = {"held_out_nll": {"shared": shared, "by_class": by_class}}
    if better:
        found["class_temperatures"] = _each(outputs, hard_labels, signal, fit).tolist()
    return found


def _each(outputs: Outputs, hard_labels: HardLabels, signal: Signal, fit: Fit) -> torch.Tensor:
    columns = zip(outputs.split(1, dim=1), hard_labels.split(1, dim=1), strict=True)
    return torch.tensor([fit(some, of, signal) for some, of in columns])


def _nll(outputs: Outputs, hard_labels: HardLabels, signal: Signal) -> float:
    return signal.metrics(outputs, hard_labels)["nll"]
