"""What the teacher says of views: writing it into stores, and checking later that they still hold it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from pipeline.batches import view_batches
from pipeline.datasets import Split
from pipeline.errors import ModelError
from pipeline.fidelity import Fidelity
from pipeline.inference import predict_logits
from pipeline.seeding import integers_below, philox
from pipeline.store import Block, StoreReader, StoreWriter
from pipeline.views import ViewSpec, render


@dataclass(frozen=True)
class Teacher:
    """A teacher at work: the network, where it runs, and how many images at once."""

    model: nn.Module
    device: torch.device
    batch_size: int


def label_block(
    teacher: Teacher, split: Split, spec: ViewSpec, block: Block, on_batch: Callable[[int], object]
) -> Float[torch.Tensor, "rows classes"]:
    """The teacher's logits for a block of views; raises ModelError with the first sample whose logits are not finite."""
    batches = view_batches(split, spec, block.view, block.rows, teacher.batch_size)
    logits = predict_logits(teacher.model, batches, teacher.device, on_batch=on_batch)
    broken = torch.nonzero(~torch.isfinite(logits).all(dim=1))[:, 0]
    if len(broken):
        row = block.rows.start + int(broken[0])
        raise ModelError(
            "teacher",
            f"{len(broken)} of {len(logits)} outputs in block {block.name} are NaN or infinite, "
            f"the first for sample {int(split.sample_ids[row]):016x} (row {row} of the training split)",
            expected="finite logits",
            mend="train or import the teacher again (a lower learning rate, or precision: float32)",
        )
    return logits


def dump_labels(
    teacher: Teacher,
    split: Split,
    spec: ViewSpec,
    blocks: Iterable[Block],
    writers: list[StoreWriter],
    on_batch: Callable[[int], object],
) -> None:
    """Runs the teacher once over every block that some store lacks, and writes it to every store that lacks it."""
    for block in blocks:
        lacking = [writer for writer in writers if not writer.has(block)]
        if not lacking:
            on_batch(len(block.rows))
            continue
        logits = label_block(teacher, split, spec, block, on_batch)
        for writer in lacking:
            writer.write(block, logits)


def recompute_fidelity(
    teacher: Teacher, split: Split, store: StoreReader, num_labels: int, seed: int
) -> dict[str, Any]:
    """How well stored labels match what the teacher says now, on about `num_labels` of them: as `Fidelity.summary`."""
    manifest = store.manifest
    by_id = {int(sample): row for row, sample in enumerate(split.sample_ids)}
    stored_ids = store.sample_ids
    parts = []
    per_view = -(-num_labels // manifest.num_views)
    for view in range(manifest.num_views):
        position = np.arange(per_view, dtype=np.int64)
        draws = philox(seed, (position, np.full_like(position, view), position * 0, position * 0))
        store_rows = np.unique(integers_below(draws[0], manifest.num_samples))
        store_rows = np.array([row for row in store_rows.tolist() if int(stored_ids[row]) in by_id], dtype=np.int64)
        if len(store_rows) == 0:
            continue
        rows = torch.tensor([by_id[int(stored_ids[row])] for row in store_rows])
        view_draws = store.views.draw(stored_ids[store_rows], view)
        pixels = render(split.images[rows], view_draws, store.views)
        logits = predict_logits(teacher.model, pixels.split(teacher.batch_size), teacher.device)
        labels = {name: field[torch.from_numpy(store_rows)] for name, field in store.read_view(view).items()}
        exact = {t: torch.log_softmax(logits.double() / t, dim=1) for t in manifest.temperatures}
        decoded = {t: store.decode(labels, t) for t in manifest.temperatures}
        parts.append(Fidelity.of(exact, decoded))
    return Fidelity.merge(parts).summary()
