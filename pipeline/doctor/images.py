"""A look at the images before anything is trained, and the one that is taken of the prepared data
set.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import IMAGE, InputKind
from pipeline.data.manifest import DatasetManifest
from pipeline.data.splits import SplitInMemory
from pipeline.doctor.disk import tree_bytes
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.pixel_shares import PixelShares
from pipeline.preparation.sources.split_names import SPLITS
from pipeline.preparation.understood import Understood
from pipeline.signals import Signal, signal_named

LOOKED_AT = 200  # images
NUM_PLACES = 20  # from which they are taken


@dataclass(frozen=True)
class Look:
    """The facts about the images that the other checks need.

    Attributes:
        some: A few training images, as they are trained on.
        data: The data set's manifest, or what it is about to be.
        class_counts: Training images by class; None where that would take too long.
        understood: The classes by name, splits and files, as `prepare` prints them.
        firsts: The state of the first image of each split, in words, and whether it is broken.
        image_bytes: On disk, of an image in data/prepare; `pool_bytes` while it waits in the pool.
        seconds: The time that prepare will take for each image; None: the data is prepared.
        folder: Of the data set; of one that is not prepared yet, the files that networks need of it
            (None: images, of which they need none).
        untimed: Why the time leaves out what is written, and bytes are a guess; None: they do not.
    """

    some: SplitInMemory
    data: DatasetManifest
    class_counts: dict[str, int] | None
    understood: Understood
    firsts: dict[str, tuple[str, bool]]
    image_bytes: float
    pool_bytes: float
    seconds: float | None
    folder: Path | None = None
    untimed: str | None = None

    @property
    def things(self) -> str:
        """The name of several samples, for messages."""
        return self.data.kind.things

    @property
    def signal(self) -> Signal:
        """The meaning of hard labels."""
        return signal_named(self.data.signal)


def look_at_prepared(dataset: ImageDataset) -> Look:
    """Returns what is known of a prepared data set.

    Raises DataError or StoreError where one of the files that are looked at is damaged.
    """
    data = dataset.manifest
    firsts: dict[str, tuple[str, bool]] = {}
    for split in SPLITS:
        first = dataset.stream(split).take(np.zeros(1, np.int64)).inputs
        firsts[split] = (f"is whole{shape_note(data.kind, first.shape[1:])}", False)
    counts = Counter[tuple[str, str | None]]()
    numbering = Numbering(data.class_names, data.signal)
    masks = None
    for split in SPLITS:
        labels = dataset.stream(split).hard_labels.numpy()
        if data.signal == "grid":
            masks = masks or PixelShares.of(labels, len(data.class_names))  # those of training, the first
            labels = numbering.entries(labels)
        for label, count in numbering.counts(labels).items():
            counts[split, label] = count
    size = tree_bytes(dataset.folder) / sum(data.num_samples.values())
    class_counts = {name: counts["train", name] for name in data.class_names}
    understood = Understood(
        data.class_names, counts, signal=data.signal, split_sizes=data.num_samples, masks=masks, kind=data.kind
    )
    return Look(spread(dataset, LOOKED_AT), data, class_counts, understood, firsts, size, 0.0, None, dataset.folder)


def shape_note(kind: InputKind, shape: Sequence[int]) -> str:
    """Returns the shape of an image, to be told of it; nothing of other samples, all of which have
    one shape.
    """
    return f", {' x '.join(map(str, shape))}" if kind is IMAGE else ""


def spread(dataset: ImageDataset, count: int) -> SplitInMemory:
    """Returns about so many training images, from all over the split."""
    train = dataset.stream("train")
    return train.take(np.concatenate([np.array(rows) for rows in places(len(train), count)]))


def places(total: int, count: int) -> list[range]:
    """Returns about so many rows, from everywhere, the last ones among them; each row is in one
    range.
    """
    if total <= count:
        return [range(total)]
    each = -(-count // NUM_PLACES)
    return [range(start, start + each) for start in sorted({int(n) for n in np.linspace(0, total - each, NUM_PLACES)})]
