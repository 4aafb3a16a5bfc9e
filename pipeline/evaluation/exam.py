"""Trained networks on the test split: what they say of every image, how they bear worse images, what they are and cost."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, UInt8
from torch import nn

from pipeline.data.splits import StreamedSplit
from pipeline.evaluation.breakdown import class_accuracies, top_k_accuracy
from pipeline.evaluation.corruptions import CORRUPTIONS, Robustness, corrupt
from pipeline.models import count_multiply_adds, count_parameters, is_for_inference_alone, network_copy
from pipeline.models.predict import predict_logits
from pipeline.models.saved import ModelMeta, read_meta
from pipeline.profiling.latency import measure_cost
from pipeline.signals.losses import kl_divergence_with_log_targets
from pipeline.signals.metrics import accuracy, agreement, classification_metrics, kl_to_teacher

_LEAST_CLASSES_FOR_TOP5 = 10
_WARMUP = 10  # calls before those that are timed

Logits = Float[torch.Tensor, "samples classes"]


@dataclass(frozen=True)
class Exam:
    """The test split, and how networks are run on it. It is read from disk again for each network; what is held are the
    images that are made worse.

    Methods call `on_images` with the number of images that a network has seen since the last call.
    """

    test: StreamedSplit
    robustness: Robustness
    batch_size: int
    device: torch.device

    def logits(self, model: nn.Module, on_images: Callable[[int], object]) -> Float32[torch.Tensor, "samples classes"]:
        """What a network says of every test image."""
        return predict_logits(model, self.test.in_order(self.batch_size), self.device, on_batch=on_images)

    def corrupted(self, model: nn.Module, logits: Logits, on_images: Callable[[int], object]) -> dict[str, float]:
        """Accuracy on the first test images under each corruption, the mean of these, and `clean`, on them as they are.

        Args:
            logits: What the network says of the test images as they are.
        """
        labels, found = self.test.hard_labels[: self.num_corrupted], {}
        for kind in CORRUPTIONS:
            worse = predict_logits(model, self._corrupted_batches(kind), self.device, on_batch=on_images)
            found[kind] = accuracy(worse, labels)
        return {"clean": accuracy(logits[: len(labels)], labels), **found, "mean": sum(found.values()) / len(found)}

    @property
    def num_corrupted(self) -> int:
        """How many test images are made worse."""
        return min(self.robustness.num_images, len(self.test))

    def num_seen(self, *, is_student: bool) -> int:
        """How many images a network sees: of a student, the best weights are tried as well as the last."""
        return len(self.test) * (1 + is_student) + self.num_corrupted * len(CORRUPTIONS)

    def _corrupted_batches(self, kind: str) -> Iterator[UInt8[torch.Tensor, "_ channels height width"]]:
        for start in range(0, self.num_corrupted, self.batch_size):
            yield self._corrupted[kind][start : start + self.batch_size]

    @cached_property
    def _corrupted(self) -> dict[str, UInt8[torch.Tensor, "some channels height width"]]:
        """Made once for all networks: of 2,000 images of 224 x 224, one corruption takes as long as running a small one."""
        some, worse = self.test.take(np.arange(self.num_corrupted)), self.robustness
        return {kind: corrupt(kind, some.images, some.sample_ids, worse.severity, worse.seed) for kind in CORRUPTIONS}


def answers(
    logits: Logits, hard_labels: Int64[torch.Tensor, " samples"], teacher_logits: Logits | None
) -> dict[str, torch.Tensor]:
    """A network's class for each test image, that class's probability, the hard label's, and KL(teacher || network) in
    nats at temperature 1, where there is another teacher than itself."""
    probs = F.softmax(logits.double(), dim=1)
    confidence, predicted = probs.max(dim=1)
    found = {
        "predicted": predicted.int(),
        "confidence": confidence.float(),
        "hard_prob": probs.gather(1, hard_labels[:, None])[:, 0].float(),
    }
    if teacher_logits is not None:
        log_targets = F.log_softmax(teacher_logits.double(), dim=1)
        found["kl_to_teacher"] = kl_divergence_with_log_targets(log_targets, logits.double()).float()
    return found


def figures(
    logits: Logits, hard_labels: Int64[torch.Tensor, " samples"], teacher_logits: Logits | None
) -> dict[str, Any]:
    """How good the answers are, and how near the teacher's."""
    num_classes = logits.shape[1]
    found: dict[str, Any] = classification_metrics(logits, hard_labels)
    if num_classes >= _LEAST_CLASSES_FOR_TOP5:
        found["top5_accuracy"] = top_k_accuracy(logits, hard_labels, 5)
    found["class_accuracy"] = class_accuracies(logits.argmax(dim=1), hard_labels, num_classes)
    if teacher_logits is not None:
        found["agreement"] = agreement(logits, teacher_logits)
        found["kl_to_teacher"] = kl_to_teacher(logits, teacher_logits)
    return found


def describe(folder: Path, meta: ModelMeta, model: nn.Module) -> dict[str, Any]:
    """What a network is: its recipe, how large it is, and how much it computes."""
    settings = meta.settings
    return {
        "role": "twin" if settings.get("twin_of") else "student",
        "model": meta.model,
        "model_settings": meta.model_settings,
        "labels": settings.get("labels"),
        "twin_of": settings.get("twin_of"),
        "parameters": count_parameters(model),
        "multiply_adds": count_multiply_adds(model, meta.image_shape),
        "file_bytes": _weight_file(folder, meta).stat().st_size,
        "settings": settings,
    }


def measure_costs(
    folders: Mapping[str, Path], repeats: int, on_networks: Callable[[int], object]
) -> dict[str, dict[str, Any]]:
    """What each network costs; those that differ in nothing but their weights are measured once."""
    alike: dict[str, list[str]] = {}
    for name, folder in folders.items():
        meta = read_meta(folder, made_by="evaluate")
        shape = (meta.image_shape, meta.size_px, meta.num_outputs, meta.network_file)
        alike.setdefault(json.dumps([meta.model, meta.model_settings, shape], sort_keys=True), []).append(name)
    costs = {}
    for names in alike.values():
        cost = asdict(measure_cost("torch", folders[names[0]], repeats, _WARMUP))
        costs.update(dict.fromkeys(names, cost))
        on_networks(len(names))
    return costs


def _weight_file(folder: Path, meta: ModelMeta) -> Path:
    copy = network_copy(meta.model, folder) if is_for_inference_alone(meta.model) else None
    return copy or folder / "weights.safetensors"
