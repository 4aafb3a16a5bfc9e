"""The test split, as every network is run on it: as it is, and with each corruption."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import nn

from pipeline.data.input_kinds import IMAGE
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.evaluation.collected import collect
from pipeline.evaluation.corruptions import CORRUPTIONS
from pipeline.evaluation.corruptions.base import Robustness
from pipeline.evaluation.marks import MARKS, Marks
from pipeline.evaluation.marks.base import HeldOut
from pipeline.models.predict import at_once, predict_each, predict_logits


@dataclass(frozen=True)
class Exam:
    """The test split, and the way in which networks are run on it.

    The split is read from disk again for each network; only the corrupted images are held in
    memory. Methods call `on_images` with the number of images that a network has seen since the
    last call.

    Args:
        val: The validation split, where the marks need it.
        folder: The place of outputs that are too large for memory.
    """

    test: SplitOnDisk
    robustness: Robustness
    batch_size: int
    device: torch.device
    marks: Marks = MARKS["categorical"]
    val: SplitOnDisk | None = None
    folder: Path = Path()

    def logits(
        self, model: nn.Module, on_images: Callable[[int], object]
    ) -> Float32[torch.Tensor, "samples classes *grid"]:
        """Returns a network's logits of every test image."""
        batches = self.test.in_order(self._at_once)
        if not self.marks.has_positions:
            return predict_logits(model, batches, self.device, on_batch=on_images)
        parts = predict_each(model, batches, self.device, on_batch=on_images)
        return collect(parts, len(self.test), self.folder)

    @property
    def _at_once(self) -> int:
        """The number of images that a network takes at a time."""
        return at_once(self.batch_size, self.marks.signal, self.test.input_shape)

    def validation(self, model: nn.Module, on_images: Callable[[int], object]) -> HeldOut | None:
        """Returns a network's logits of every validation image, and their hard labels; None where
        the marks do not need them.
        """
        if self.val is None:
            return None
        batches = self.val.in_order(self.batch_size)
        return predict_logits(model, batches, self.device, on_batch=on_images), self.val.hard_labels

    def corrupted(
        self, model: nn.Module, logits: Float[torch.Tensor, "samples classes *grid"], on_images: Callable[[int], object]
    ) -> dict[str, float]:
        """Returns the headline on the first test images under each corruption, their `mean`, and
        that on them as they are (`clean`); nothing where samples are no images.

        Args:
            logits: The network's logits of the test images as they are.
        """
        if not self.num_corrupted:
            return {}
        labels, found = self.test.hard_labels[: self.num_corrupted], {}
        for kind in CORRUPTIONS:
            worse = predict_logits(model, self._corrupted_batches(kind), self.device, on_batch=on_images)
            found[kind] = self.marks.score(worse, labels)
        clean = self.marks.score(logits[: len(labels)], labels)
        return {"clean": clean, **found, "mean": sum(found.values()) / len(found)}

    @property
    def num_corrupted(self) -> int:
        """The number of test samples that are corrupted: there are corruptions of images alone."""
        return min(self.robustness.num_images, len(self.test)) if self.test.content.kind is IMAGE else 0

    def num_seen(self, *, is_student: bool) -> int:
        """Returns the number of images that a network sees: a student's best weights are run as
        well as its last.
        """
        chosen_on = 0 if self.val is None else len(self.val)
        return chosen_on + len(self.test) * (1 + is_student) + self.num_corrupted * len(CORRUPTIONS)

    def _corrupted_batches(self, kind: str) -> Iterator[UInt8[torch.Tensor, "_ channels height width"]]:
        yield from self._corrupted[kind].split(self._at_once)

    @cached_property
    def _corrupted(self) -> dict[str, UInt8[torch.Tensor, "some channels height width"]]:
        """The corrupted images by kind, made once for all networks: on 2,000 images of 224 x 224,
        one corruption takes as long as running a small network.
        """
        some, worse = self.test.take(np.arange(self.num_corrupted)), self.robustness
        return {
            kind: cls().apply(some.inputs, some.sample_ids, worse.severity, worse.seed)
            for kind, cls in CORRUPTIONS.items()
        }
