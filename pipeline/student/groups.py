"""Students of one group: what they must have in common, and the batches that they share in one pass over the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import ConfigError
from pipeline.labels.reader import StoreReader
from pipeline.student.batches import LabelledBatch
from pipeline.student.labelled_views import LabelledViews, shared_batches
from pipeline.training.batches import WHOLE, Share
from pipeline.training.fit import BatchesTogether

#: What decides which images are in a batch, besides the views of a store, and what there is only once in a process.
_ALIKE = ("seed", "fit.batch_size", "device", "memory_budget_mb")


def check_alike(
    rows: Mapping[str, Any], stores: Mapping[str, StoreReader], where: str, num_unlabelled: int = 0
) -> None:
    """Raises ConfigError where students can't share their batches, naming the first that differs from the first.

    Args:
        rows: Their settings by name.
        stores: What each learns from, where that is there already.
        where: The table that the rows are in.
        num_unlabelled: Training images without a hard label, which those who learn from these alone leave out.
    """
    first = next(iter(rows))
    for name in rows:
        for key in _ALIKE:
            found, expected = attrgetter(key)(rows[name]), attrgetter(key)(rows[first])
            if found != expected:
                _refuse(f"{where}.{name}.{key}", f"{found}, but {expected} in {where}.{first}.{key}")
        if num_unlabelled and (rows[name].soft_weight == 0) != (rows[first].soft_weight == 0):
            found = f"one of {where}.{name} and {where}.{first} is 0, and unlabelled images are for soft labels alone"
            _refuse(f"{where}.{name}.soft_weight", found)
        if {name, first} <= stores.keys() and not _have_the_same_views(stores[name], stores[first]):
            store, other = stores[name].location, stores[first].location
            _refuse(f"{where}.{name}.labels", f"{store} has other views than {other} of {where}.{first}.labels")


def _refuse(where: str, found: str) -> None:
    raise ConfigError(where, found, expected="the same in all of a group", fix="or give one of them another group")


def _have_the_same_views(one: StoreReader, other: StoreReader) -> bool:
    if one.views != other.views or one.manifest.view_numbers != other.manifest.view_numbers:
        return False
    # Which image is mixed into another depends on how the store's rows are ordered and cut into blocks.
    same_blocks = one.manifest.block_samples == other.manifest.block_samples
    return not one.views.mixes or (same_blocks and np.array_equal(one.sample_ids, other.sample_ids))


def batches_together(
    views: Sequence[LabelledViews], device: torch.device, *, batch_size: int, seed: int, share: Share = WHOLE
) -> BatchesTogether[LabelledBatch]:
    """The batches of students that learn from these views, one of `views` each: images are read, rendered and moved to
    the device once. Of each batch only a share."""

    def batches(places: Sequence[int], epoch: int, start: int) -> Iterator[tuple[LabelledBatch, ...]]:
        asked = [views[place] for place in places]
        for several in shared_batches(asked, epoch, start, batch_size=batch_size, seed=seed, share=share):
            inputs = several[0].inputs.to(device, non_blocking=True)
            yield tuple(replace(batch, inputs=inputs) for batch in several)

    return batches
