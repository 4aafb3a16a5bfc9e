"""Disk space: the data set and the label stores that are there, and those that are yet to be
written.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.doctor.disk import count_copies, tree_bytes
from pipeline.doctor.folders import Folders
from pipeline.doctor.images import Look
from pipeline.doctor.labels import LabelStore, SomeLabels
from pipeline.labelling.ladder import TrialLabels, measure_encoding
from pipeline.labelling.settings import DumpLabels

_MOST_PILOT = 0.5  # of the labels
_SAMPLE_ID_BYTES = 8


class LabelBytes(NamedTuple):
    """The bytes on disk of one label, and the source of that number, for people."""

    size: float
    source: str


@dataclass(frozen=True)
class DiskSpace:
    """The bytes on disk that the run takes, and those that are free.

    Attributes:
        prepare: Of data/prepare, which is there or will be; `pool` of what waits beside it while it
            is made.
        stores: Of each label store, and `stores_there` of those that are there already.
        label_bytes: Of one label in each store, and where that number comes from.
        copies: Of every output: more than 1 where DVC's cache and `work` do not link it.
    """

    prepare: float
    pool: float
    is_prepared: bool
    stores: Mapping[str, float]
    stores_there: int
    label_bytes: Mapping[str, LabelBytes]
    copies: int
    free: int

    @property
    def needed(self) -> float:
        """The free bytes that the hungriest moment takes."""
        prepare = 0.0 if self.is_prepared else self.prepare
        stores = max(0.0, sum(self.stores.values()) - self.stores_there)
        return max(prepare + self.pool, self.copies * (prepare + stores))


def measure_space(dump: DumpLabels, sizes: Mapping[str, LabelBytes], look: Look, folders: Folders) -> DiskSpace:
    """Returns what the data set and the planned stores will take.

    Args:
        sizes: Those of a label in each store.
    """
    num_samples = look.data.num_samples
    num_labels = dump.num_views * num_samples["train"]
    existing = next(path for path in [folders.data.absolute(), *folders.data.absolute().parents] if path.exists())
    return DiskSpace(
        prepare=look.image_bytes * sum(num_samples.values()),
        pool=look.pool_bytes * sum(num_samples.values()),
        is_prepared=look.seconds is None,
        stores={name: num_labels * each.size + num_samples["train"] * _SAMPLE_ID_BYTES for name, each in sizes.items()},
        stores_there=tree_bytes(folders.labels),
        label_bytes=sizes,
        copies=count_copies(Path()),
        free=shutil.disk_usage(existing).free,
    )


def measure_label_bytes(
    dump: DumpLabels, stores: Mapping[str, LabelStore], labels: SomeLabels, num_train: int
) -> dict[str, LabelBytes]:
    """Returns the bytes of one label in each store of so many images: some are written, and
    measured; where a budget limits them, they are not.

    The first labels, half of them at most, serve as the pilot.
    """
    values, num_labels = labels.values, dump.num_views * num_train
    space = labels.space
    pilot = values[: max(1, min(dump.pilot_labels, int(_MOST_PILOT * len(values))))]
    trial = TrialLabels(values, pilot, space, num_labels, dump.block_samples, dump.num_views, labels.first_views)
    sizes: dict[str, LabelBytes] = {}
    for name, store in stores.items():
        budget, sizes[name] = store.budget, LabelBytes(0.0, labels.source)
        if budget and budget.bytes is not None:
            sizes[name] = LabelBytes(budget.bytes, "the most by its budget")
        elif store.encoding.fields(space):
            source = f"a guess: the dump chooses for {budget}" if budget else labels.source
            sizes[name] = LabelBytes(measure_encoding(trial, store.encoding).label_bytes, source)
    return sizes
