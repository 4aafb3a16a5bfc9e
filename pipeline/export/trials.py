"""Trials of a network in int8, in one form or another, beside the same network in float32."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float

from pipeline.data.splits import SplitInMemory
from pipeline.export.libraries import ExportError
from pipeline.export.onnx_file import run_onnx
from pipeline.export.quantization import Form, Quantiser, in_batches
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.thinning import kept_labels, kept_outputs

Logits = Float[torch.Tensor, "samples classes *grid"]


@dataclass(frozen=True)
class Samples:
    """The samples that decide on an int8 file.

    Attributes:
        calibration: Training images: ranges of activations are measured on these.
        compared: Some of them, on which the loss of each layer is measured.
        checked: Validation images, on which it is measured what int8 loses.
        signal: The meaning of the logits.
    """

    calibration: SplitInMemory
    compared: SplitInMemory
    checked: SplitInMemory
    signal: Signal = CATEGORICAL

    def taken(self, taken: Callable[[torch.Tensor], torch.Tensor]) -> "Samples":
        """Returns the same samples as an exported network takes them."""
        calibration, compared, checked = (
            replace(split, inputs=taken(split.inputs)) for split in (self.calibration, self.compared, self.checked)
        )
        return Samples(calibration, compared, checked, self.signal)


class Trials:
    """The forms of a network; each figure of one is measured once, when it is first asked for.

    A form that can't be written or run loses everything.

    Attributes:
        fault: Why the first form failed that did; None where none has.
    """

    def __init__(self, network: Quantiser, path: Path, source: Path, samples: Samples) -> None:
        self._network, self._path, self._source, self._samples = network, path, source, samples
        self._known: dict[tuple[str, Form], float] = {}
        self._exact: dict[int, Logits] = {}
        self._written: Form | None = None
        self.fault: str | None = None

    def agreement(self, form: Form) -> float:
        """Returns the share of decisions on the calibration images that are those of float32."""
        return self._figure("agreement", form, self._samples.calibration, self._samples.signal.agreement, 0.0)

    def kl(self, form: Form) -> float:
        """Returns the mean KL to float32 on the calibration images, in nats."""
        return self._figure("kl", form, self._samples.calibration, self._kl, math.inf)

    def loss(self, form: Form) -> float:
        """Returns the mean KL to float32 on the images on which layers are compared, in nats."""
        return self._figure("loss", form, self._samples.compared, self._kl, math.inf)

    def drop_points(self, form: Form) -> float:
        """Returns the percentage points of the signal's headline that a form loses on the
        validation images.
        """
        checked, score = self._samples.checked, self._samples.signal.score

        def drop(logits: Logits, exact: Logits) -> float:
            labels = kept_labels(checked.hard_labels, logits.shape[1])
            return 100 * (score(exact, labels) - score(logits, labels))

        return self._figure("drop", form, checked, drop, math.inf)

    def _kl(self, logits: Logits, exact: Logits) -> float:
        return self._samples.signal.kl_of_each(logits, exact).mean().item()

    def write(self, form: Form) -> None:
        """Writes the file in this form, unless it is there; raises ExportError where it can't."""
        if self._written != form:
            self._written = None
            self._network.write(self._path, form)
            self._written = form

    def _figure(
        self, name: str, form: Form, split: SplitInMemory, measure: Callable[[Logits, Logits], float], failed: float
    ) -> float:
        """Returns a figure of a form beside float32; `failed` where it can't be written or run."""
        if (name, form) not in self._known:
            try:
                self.write(form)
                found = measure(self._run(self._path, split), self._in_float32(split))
            except ExportError as error:
                self.fault = self.fault or str(error)
                found = failed
            self._known[name, form] = found
        return self._known[name, form]

    def _in_float32(self, split: SplitInMemory) -> Logits:
        if id(split) not in self._exact:
            self._exact[id(split)] = self._run(self._source, split)
        return self._exact[id(split)]

    def _run(self, path: Path, split: SplitInMemory) -> Logits:
        keep = partial(kept_outputs, num_samples=len(split))
        return run_onnx(path, in_batches(split.inputs), keep)
