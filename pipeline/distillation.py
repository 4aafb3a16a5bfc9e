"""Joins stored labels to the views they belong to, and the student's objective."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import nn

from pipeline.batches import num_steps, training_batches
from pipeline.canaries import check_canaries
from pipeline.datasets import Split
from pipeline.errors import StoreError
from pipeline.losses import cross_entropy, knowledge_distillation
from pipeline.store import StoreReader


@dataclass(frozen=True)
class LabelledBatch:
    """Views as pixels, hard labels, and each view's stored label (empty where the store keeps none)."""

    images: UInt8[torch.Tensor, "batch channels height width"]
    hard_labels: Int64[torch.Tensor, " batch"]
    soft_labels: dict[str, Shaped[torch.Tensor, "batch ..."]]


class LabelledViews:
    """A training split with the labels of a store, joined by sample id. Checked before the first batch.

    Raises StoreError where the store is for other data, lacks some of the images, or was made of other views.
    """

    def __init__(self, split: Split, store: StoreReader, class_names: list[str]) -> None:
        if store.manifest.class_names != class_names:
            raise StoreError(
                store.path,
                f"classes {store.manifest.class_names}",
                expected=f"{class_names} (data/prepare)",
                mend=_MEND,
            )
        self._split, self._store = split, store
        self._store_rows = torch.from_numpy(match_rows(split, store))
        check_canaries(store.canaries, split, store.views, store.path)

    def steps_per_epoch(self, batch_size: int) -> int:
        return num_steps(len(self._split), batch_size)

    def batches(self, epoch: int, start_step: int, *, batch_size: int, seed: int) -> Iterator[LabelledBatch]:
        """A shuffled epoch over view `epoch % num_views`, with that view's labels (read once, whole)."""
        view = epoch % self._store.manifest.num_views
        labels = self._store.read_view(view)
        for batch in training_batches(
            self._split,
            self._store.views,
            view=view,
            epoch=epoch,
            batch_size=batch_size,
            seed=seed,
            start_step=start_step,
        ):
            rows = self._store_rows[batch.row_index]
            yield LabelledBatch(batch.images, batch.hard_labels, {name: field[rows] for name, field in labels.items()})


def match_rows(split: Split, store: StoreReader) -> Int64[np.ndarray, " samples"]:
    """Which row of the store holds each sample of the split."""
    stored = store.sample_ids
    by_id = np.argsort(stored, kind="stable")
    place = np.searchsorted(stored[by_id], split.sample_ids).clip(max=len(stored) - 1)
    rows = by_id[place]
    missing = int((stored[rows] != split.sample_ids).sum())
    if missing == len(split):
        raise StoreError(store.path, "holds labels for other data: none of these images is in it", mend=_MEND)
    if missing:
        raise StoreError(store.path, f"has no label for {missing} of {len(split)} training images", mend=_MEND)
    return np.asarray(rows, dtype=np.int64)


_MEND = "run `dvc repro dump_labels` for this data"


@dataclass(frozen=True)
class Objective:
    """hard_weight * CE + soft_weight * temperature^2 * KL(teacher || student), per example.

    References:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv 1503.02531, section 2.
    """

    hard_weight: float
    soft_weight: float
    temperature: float
    label_smoothing: float
    store: StoreReader

    def __call__(self, model: nn.Module, batch: LabelledBatch, device: torch.device) -> Float[torch.Tensor, ""]:
        """The batch's mean loss."""
        logits = model(batch.images.to(device, non_blocking=True))
        loss: torch.Tensor | float = 0.0
        if self.hard_weight:
            hard_labels = batch.hard_labels.to(device, non_blocking=True)
            loss = self.hard_weight * cross_entropy(logits, hard_labels, label_smoothing=self.label_smoothing)
        if self.soft_weight:
            labels = {name: field.to(device, non_blocking=True) for name, field in batch.soft_labels.items()}
            log_targets = self.store.decode(labels, self.temperature)
            soft = knowledge_distillation(logits, log_targets, temperature=self.temperature)
            loss = loss + self.soft_weight * soft
        assert isinstance(loss, torch.Tensor), "settings are checked: one of the weights is positive"
        return loss.mean()
