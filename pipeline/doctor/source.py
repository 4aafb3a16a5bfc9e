"""A look at a source whose images are not prepared yet: a few of them are made ready, and timed."""

import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import DataError
from pipeline.data.dataset import SPLITS
from pipeline.data.decoding import DecodeError, decode, fit, map_in_order, num_channels
from pipeline.data.manifest import DatasetManifest
from pipeline.data.splits import UNLABELLED, SplitInMemory
from pipeline.doctor.disk import tree_bytes
from pipeline.doctor.images import LOOKED_AT, NUM_PLACES, Look, starts
from pipeline.preparation.listing import list_images
from pipeline.preparation.make import Broken, ImageForm, Made
from pipeline.preparation.pool import Pool
from pipeline.preparation.presence import check_files
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.statistics import channel_statistics
from pipeline.preparation.understood import understand
from pipeline.preparation.write import SplitRows, write_split

_WRITTEN_TIMES = 5
_SLOW_SECONDS = 1.0
_SIZED = 4  # one of so many images is decoded for its size


class SourceLook:
    """A look at a source. Raises SourceError, and DataError where its images can't be trained on as
    they are.

    Reading all labels may take hours, so they are counted for some seconds. A source that takes
    longer is known by the images that were looked at.
    """

    def __init__(self, source: Source, raw: Path, settings: Prepare) -> None:
        self._source, self._raw, self._settings = source, raw, settings
        self.class_names = source.class_names(raw)
        check_files(source, settings)
        self.count = source.count(raw)
        self._listing = list_images(source, raw)
        self._counts = self._listing.counts

    def look(self) -> Look:
        """Returns what is known of the images, with the time that preparing them will take."""
        # 1. Make a few images ready, as prepare would, and time it.
        raws = list(self._some()) or [raw for split, raw in self._listing.firsts.items() if split == "train"]
        form = self._form(raws)
        form.make(raws[0])  # the first one also sets the decoder up
        start = time.perf_counter()
        made = list(map_in_order(form.make, raws, os.cpu_count() or 1))
        seconds = time.perf_counter() - start
        whole = [one for one in made if isinstance(one, Made)]
        broken = [one for one in made if isinstance(one, Broken)]
        if broken and (self._settings.broken == "refuse" or not whole):
            found = f"{broken[0].reason}; {len(broken)} of the {len(made)} images that were looked at are broken"
            fix = "fix or remove them, or set prepare.broken: skip in params.yaml"
            raise DataError(broken[0].key, found, fix=fix)
        _check_sizes(whole)
        # 2. Time the rest of the work: the pool, and the files of the data set.
        if seconds < _SLOW_SECONDS:  # in a longer time decoding is nearly all
            seconds = self._pooling_seconds(raws, form)
        some = self._split(whole, form)
        image_bytes, to_write = _write(some, whole, form)
        # 3. Estimate the whole data set from these.
        pool_bytes = float(np.mean([len(one.stored) for one in whole]))
        data = self._data(some, form)
        return Look(
            some,
            data,
            self._class_counts(),
            understand(self._source, self.class_names, self._listing, self._settings),
            self._firsts_seen(form),
            image_bytes,
            pool_bytes,
            seconds / len(made) + to_write + self._listing.seconds / self._counts.total(),
        )

    def sizes(self) -> list[tuple[int, int]]:
        """Returns height and width of some training images as they are, without broken ones."""
        sizes = []
        for raw in islice(self._some(), 0, None, _SIZED):
            with suppress(DecodeError):
                height, width = decode(raw.content, 1).shape[1:]
                sizes.append((height, width))
        return sizes

    def _some(self) -> Iterator[RawImage]:
        """Yields a few training images from all over the source.

        A source that does not count its images is taken to end where listing ended.
        """
        total = self.count or self._counts.total()
        each = -(-LOOKED_AT // NUM_PLACES)
        for start in starts(total, LOOKED_AT):
            yield from (raw for raw in islice(self._source.images(self._raw, start), each) if raw.split == "train")

    def _pooling_seconds(self, raws: list[RawImage], form: ImageForm) -> float:
        """Returns the seconds that pooling takes: the difference of many images and few."""
        seconds = []
        for times in (1, 1, _WRITTEN_TIMES):
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                pool = Pool(Path(folder, "pool"), form, self.class_names, self.count)
                deque(pool.fill(iter(raws * times)), maxlen=0)
                seconds.append(time.perf_counter() - start)
        return max(0.0, seconds[2] - seconds[1]) / (_WRITTEN_TIMES - 1)

    def _form(self, raws: list[RawImage]) -> ImageForm:
        """Returns the form with its channels: those of the first image, where they are not set."""
        form = self._settings.form
        for raw in [] if form.channels else raws:
            try:
                return replace(form, channels=num_channels(raw.content))
            except DecodeError:
                continue
        return form if form.channels else replace(form, channels=1)

    def _split(self, whole: list[Made], form: ImageForm) -> SplitInMemory:
        assert form.channels is not None, "it was found"
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.class_names)}
        images = []
        for one in whole:
            if form.storage == "pixels":
                images.append(np.frombuffer(one.stored, np.uint8).reshape(one.shape))
            else:
                pixels = decode(one.stored, form.channels)
                images.append(fit(pixels, form.image_px) if form.image_px else pixels)
        labels = torch.tensor([numbers.get(one.label, UNLABELLED) for one in whole])
        ids = np.array([one.sample_id for one in whole], dtype=np.uint64)
        return SplitInMemory(torch.from_numpy(np.stack(images)), labels, ids)

    def _data(self, some: SplitInMemory, form: ImageForm) -> DatasetManifest:
        """Returns about the manifest that prepare will write."""
        listed = {split: sum(count for (one, _), count in self._counts.items() if one == split) for split in SPLITS}
        share = (self.count or self._counts.total()) / self._counts.total()
        sizes = {split: round(share * listed[split]) for split in SPLITS}
        for split, fraction in (("test", self._settings.test_fraction), ("val", self._settings.val_fraction)):
            if sizes[split] == 0:
                sizes[split] = round(fraction * sizes["train"])
                sizes["train"] -= sizes[split]
        mean, std = channel_statistics(some.inputs)
        shape, unlabelled = list(some.inputs.shape[1:]), round(share * self._counts["train", None])
        data = DatasetManifest(self._source.kind, list(self.class_names), shape, mean, std, sizes, {}, 0, 0)
        return replace(data, num_unlabelled=unlabelled, storage=form.storage)

    def _class_counts(self) -> dict[str, int] | None:
        if not self._listing.is_whole:
            return None
        return {name: self._counts["train", name] for name in self.class_names}

    def _firsts_seen(self, form: ImageForm) -> dict[str, tuple[str, bool]]:
        states = {}
        for split, made in ((split, form.make(raw)) for split, raw in self._listing.firsts.items()):
            if isinstance(made, Broken):
                states[split] = (f"is broken ({made.key}: {made.reason})", True)
            else:
                states[split] = (f"is whole, {' x '.join(map(str, made.shape))} ({made.key})", False)
        return states


def _check_sizes(whole: list[Made]) -> None:
    first = whole[0]
    for one in whole:
        if one.shape != first.shape:
            sizes = [" x ".join(map(str, shape[1:])) for shape in (first.shape, one.shape)]
            found = f"{sizes[0]} pixels (height x width), but {one.key} has {sizes[1]}"
            fix = "set prepare.image_px: [height, width] in params.yaml, to which all are scaled and cut"
            raise DataError(first.key, found, expected="images of one size", fix=fix)


def _write(some: SplitInMemory, whole: list[Made], form: ImageForm) -> tuple[float, float]:
    """Returns the bytes and the seconds that writing an image into data/prepare takes.

    The bytes include its line in samples.tsv; the seconds are the difference of many and few.
    """
    sizes, seconds = [], []
    for times in (1, 1, _WRITTEN_TIMES):  # the first one warms up
        rows = np.tile(np.arange(len(some)), times)
        split = SplitInMemory(some.inputs[rows], some.hard_labels[rows], some.sample_ids[rows])
        written = SplitRows.of(split)
        if form.storage == "encoded":
            contents = [np.frombuffer(whole[row].stored, np.uint8) for row in rows]
            lengths = np.array([len(content) for content in contents])
            written = replace(written, sizes=lengths, contents=partial(_from, contents))
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write_split(Path(folder, "train.zarr"), written, some.inputs.shape[1:])
            seconds.append(time.perf_counter() - start)
            sizes.append(tree_bytes(Path(folder)))
    more = (_WRITTEN_TIMES - 1) * len(some)
    line = np.mean([len(f"{one.sample_id:016x}\t{one.split}\t{one.label}\t{one.key}\n") for one in whole])
    return sizes[1] / len(some) + float(line), max(0.0, seconds[2] - seconds[1]) / more


def _from(contents: list[np.ndarray], first: int) -> Iterator[np.ndarray]:
    yield from contents[first:]


@contextmanager
def spared(raw: Path) -> Iterator[Path]:
    """Yields a folder for downloads that shows the files of `raw` and is deleted afterwards."""
    with tempfile.TemporaryDirectory() as name:
        for path in raw.rglob("*") if raw.is_dir() else ():
            if path.is_file():
                place = Path(name, path.relative_to(raw))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(path.resolve())
        yield Path(name)
