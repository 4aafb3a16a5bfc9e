"""Trials of what preparing takes: a few images are pooled and written into a temporary folder."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipeline.core.tables import lines_of
from pipeline.data.splits import SplitInMemory
from pipeline.doctor.disk import tree_bytes
from pipeline.doctor.load import Clock
from pipeline.labelling.temporary import FullDiskError, temporary_folder
from pipeline.preparation.form import Form
from pipeline.preparation.made import Made
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.piece import Piece
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.write import rows_of, write_split

_WRITTEN_TIMES = 5
_SLOW_SECONDS = 1.0  # in a longer time decoding is nearly all of the work


@dataclass(frozen=True)
class Trial:
    """The bytes and the seconds that an image takes in data/prepare.

    Attributes:
        fault: Why it could not be tried; then the bytes are those of its pixels or its file.
    """

    image_bytes: float
    seconds: float
    fault: str | None = None


def try_preparing(
    pool: partial[Piece], raws: list[RawImage], decoding: float, some: SplitInMemory, whole: list[Made], clock: Clock
) -> Trial:
    """Returns what an image takes; a full disk for temporary files is no obstacle.

    Args:
        pool: Makes a pool in a folder.
        decoding: The seconds that making these images ready took, by the clock.
    """
    try:
        seconds = decoding if decoding >= _SLOW_SECONDS else _pooling_seconds(pool, raws, clock)
        image_bytes, to_write = _write(some, whole, pool.keywords["form"], pool.keywords["numbering"], clock)
    except FullDiskError as fault:
        stored = float(np.mean([one.num_bytes for one in whole]))
        return Trial(stored, decoding / len(raws), str(fault))
    return Trial(image_bytes, seconds / len(raws) + to_write)


def _pooling_seconds(pool: partial[Piece], raws: list[RawImage], clock: Clock) -> float:
    """Returns the seconds that pooling takes: the difference of many images and few."""
    seconds = []
    for times in (1, 1, _WRITTEN_TIMES):
        start = clock.read()
        with temporary_folder() as folder:
            piece = pool(folder / "pool")
            deque(piece.fill(map(piece.form.make, raws * times)), maxlen=0)
            seconds.append(clock.read() - start)
    return max(0.0, seconds[2] - seconds[1]) / (_WRITTEN_TIMES - 1)


def _write(
    some: SplitInMemory, whole: list[Made], form: Form, numbering: Numbering, clock: Clock
) -> tuple[float, float]:
    """Returns the bytes and the seconds that writing an image into data/prepare takes.

    The bytes include its line in samples.tsv; the seconds are the difference of many and few.
    """
    sizes, seconds = [], []
    for times in (1, 1, _WRITTEN_TIMES):  # the first one warms up
        rows = np.tile(np.arange(len(some)), times)
        split = SplitInMemory(some.inputs[rows], some.hard_labels[rows], some.sample_ids[rows], some.content)
        written = rows_of(split)
        if form.storage == "encoded":
            contents = [np.frombuffer(whole[row].stored, np.uint8) for row in rows]
            lengths = np.array([len(content) for content in contents])
            written = replace(written, sizes=lengths, contents=partial(_some, contents))
        start = clock.read()
        with temporary_folder() as folder:
            write_split(folder / "train.zarr", written, some.inputs.shape[1:], kind=form.kind)
            seconds.append(clock.read() - start)
            sizes.append(tree_bytes(folder))
    more = (_WRITTEN_TIMES - 1) * len(some)
    labels = [numbering.text(label) for label in some.hard_labels.numpy()]
    listed = lines_of(
        (f"{one.sample_id:016x}", one.split, label, one.key) for one, label in zip(whole, labels, strict=True)
    )
    line = np.mean([len(text) for text in listed])
    return sizes[1] / len(some) + float(line), max(0.0, seconds[2] - seconds[1]) / more


def _some(contents: list[np.ndarray], some: slice) -> Iterator[np.ndarray]:
    yield from contents[some]
