"""A look at the images before anything is trained: of the prepared data set, or of its source where there is none."""

import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import DataError
from pipeline.data.dataset import SPLITS, DatasetManifest, ImageDataset
from pipeline.data.decoding import DecodeError, decode, fit, map_in_order, num_channels
from pipeline.data.splits import UNLABELLED, Split
from pipeline.doctor.space import tree_bytes
from pipeline.preparation.make import Broken, ImageForm, Made
from pipeline.preparation.pool import Pool
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import RawImage, Source
from pipeline.preparation.statistics import channel_statistics
from pipeline.preparation.write import SplitRows, write_split

LOOKED_AT = 200  # images
_PLACES = 20  # that they are from
_WRITTEN_TIMES = 5
_SLOW_SECONDS = 1.0
_LISTING_SECONDS = 10.0  # for which a source is asked for labels


@dataclass(frozen=True)
class Look:
    """What is known of the images.

    Attributes:
        some: A few training images, as they are trained on.
        data: The data set's manifest, or what it is about to be.
        class_counts: Training images by class; None where that would take too long.
        firsts: What the first image of each split is, and whether it is broken.
        image_bytes: On disk, of an image in data/prepare; `pool_bytes` as it waits there for being split.
        seconds: For each image that prepare must still take; None: it has.
    """

    some: Split
    data: DatasetManifest
    class_counts: dict[str, int] | None
    firsts: dict[str, tuple[str, bool]]
    image_bytes: float
    pool_bytes: float
    seconds: float | None


def misfit(data: DatasetManifest, settings: Prepare) -> str | None:
    """In what a prepared data set is not what the settings ask for, as far as it tells."""
    shape = data.image_shape
    told = {
        "source": (data.source, str(settings.source.get("kind"))),
        "storage": (data.storage, settings.storage),
        "image_px": (shape[1:], list(settings.image_px) if settings.image_px else shape[1:]),
        "channels": (shape[0], settings.channels or shape[0]),
    }
    differing = [f"{key} {found}, now {wanted}" for key, (found, wanted) in told.items() if found != wanted]
    return differing[0] if differing else None


def look_at_prepared(dataset: ImageDataset) -> Look:
    """Raises DataError or StoreError where it is damaged in what is looked at."""
    data = dataset.manifest
    firsts: dict[str, tuple[str, bool]] = {}
    for split in SPLITS:
        shape = " x ".join(map(str, dataset.stream(split).take(np.zeros(1, np.int64)).images.shape[1:]))
        firsts[split] = (f"is whole, {shape}", False)
    train = dataset.stream("train")
    labels = train.hard_labels.numpy()
    counts = np.bincount(labels[labels != UNLABELLED], minlength=len(data.class_names)).tolist()
    size = tree_bytes(dataset.folder) / sum(data.num_samples.values())
    class_counts = dict(zip(data.class_names, counts, strict=True))
    return Look(spread(dataset, LOOKED_AT), data, class_counts, firsts, size, 0.0, None)


def spread(dataset: ImageDataset, count: int) -> Split:
    """About so many training images, from all over the split."""
    train = dataset.stream("train")
    ranges = [range(start, min(start + -(-count // _PLACES), len(train))) for start in _starts(len(train), count)]
    return train.take(np.unique(np.concatenate([np.arange(some.start, some.stop) for some in ranges])))


def _starts(total: int, count: int) -> list[int]:
    """Where to begin reading, so that some come from everywhere, the last ones among them."""
    each = -(-count // _PLACES)
    return sorted({int(place) for place in np.linspace(0, max(total - each, 0), _PLACES)})


class SourceLook:
    """A look at a source. Raises SourceError, and DataError where its images can't be trained on as they are.

    Reading all labels may take hours, so that they are counted for some seconds; if these do not do, what is known are
    the images that were looked at.
    """

    def __init__(self, source: Source, raw: Path, settings: Prepare) -> None:
        self._source, self._raw, self._settings = source, raw, settings
        self.class_names = source.class_names(raw)
        self.count = source.count(raw)
        #: Images by split and class, as far as they were listed, and whether that was all.
        self.listed: Counter[tuple[str, str | None]] = Counter()
        self._firsts: dict[str, RawImage] = {}
        start = time.monotonic()
        self.is_whole = self._list()
        self._listing_seconds = (time.monotonic() - start) / self.listed.total()

    def _list(self) -> bool:
        end = time.monotonic() + _LISTING_SECONDS
        for raw in self._source.images(self._raw):
            self.listed[raw.split, raw.label] += 1
            self._firsts.setdefault(raw.split, raw)
            if time.monotonic() > end:
                return False
        return True

    def look(self) -> Look:
        raws = list(self._some()) or [raw for split, raw in self._firsts.items() if split == "train"]
        form = self._form(raws)
        form.make(raws[0])  # what is done once
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
        if seconds < _SLOW_SECONDS:  # or else decoding is nearly all
            seconds = self._pooling_seconds(raws, form)
        some = self._split(whole, form)
        image_bytes, to_write = _write(some, whole, form)
        pool_bytes = float(np.mean([len(one.stored) for one in whole]))
        data = self._data(some, form)
        return Look(
            some,
            data,
            self._class_counts(),
            self._told(form),
            image_bytes,
            pool_bytes,
            seconds / len(made) + to_write + self._listing_seconds,
        )

    def _some(self) -> Iterator[RawImage]:
        """A few training images; of what was listed where the source does not count."""
        total = self.count or self.listed.total()
        each = -(-LOOKED_AT // _PLACES)
        for start in _starts(total, LOOKED_AT):
            yield from (raw for raw in islice(self._source.images(self._raw, start), each) if raw.split == "train")

    def _pooling_seconds(self, raws: list[RawImage], form: ImageForm) -> float:
        """To make images ready and keep them until they are split: the difference between many and few."""
        seconds = []
        for times in (1, 1, _WRITTEN_TIMES):
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                pool = Pool(Path(folder, "pool"), form, self.class_names, self.count)
                deque(pool.fill(iter(raws * times)), maxlen=0)
                seconds.append(time.perf_counter() - start)
        return max(0.0, seconds[2] - seconds[1]) / (_WRITTEN_TIMES - 1)

    def _form(self, raws: list[RawImage]) -> ImageForm:
        """The form with its channels: those of the first image, where they are not set."""
        form = self._settings.form
        for raw in [] if form.channels else raws:
            try:
                return replace(form, channels=num_channels(raw.content))
            except DecodeError:
                continue
        return form if form.channels else replace(form, channels=1)

    def _split(self, whole: list[Made], form: ImageForm) -> Split:
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
        return Split(torch.from_numpy(np.stack(images)), labels, ids)

    def _data(self, some: Split, form: ImageForm) -> DatasetManifest:
        """What prepare will make of it, about."""
        listed = {split: sum(count for (one, _), count in self.listed.items() if one == split) for split in SPLITS}
        share = (self.count or self.listed.total()) / self.listed.total()
        sizes = {split: round(share * listed[split]) for split in SPLITS}
        for split, fraction in (("test", self._settings.test_fraction), ("val", self._settings.val_fraction)):
            if sizes[split] == 0:
                sizes[split] = round(fraction * sizes["train"])
                sizes["train"] -= sizes[split]
        mean, std = channel_statistics(some.images)
        shape, unlabelled = list(some.images.shape[1:]), round(share * self.listed["train", None])
        data = DatasetManifest(self._source.kind, list(self.class_names), shape, mean, std, sizes, {}, 0, 0)
        return replace(data, num_unlabelled=unlabelled, storage=form.storage)

    def _class_counts(self) -> dict[str, int] | None:
        if not self.is_whole:
            return None
        return {name: self.listed["train", name] for name in self.class_names}

    def _told(self, form: ImageForm) -> dict[str, tuple[str, bool]]:
        told = {}
        for split, made in ((split, form.make(raw)) for split, raw in self._firsts.items()):
            if isinstance(made, Broken):
                told[split] = (f"is broken ({made.key}: {made.reason})", True)
            else:
                told[split] = (f"is whole, {' x '.join(map(str, made.shape))} ({made.key})", False)
        return told


def _check_sizes(whole: list[Made]) -> None:
    first = whole[0]
    for one in whole:
        if one.shape != first.shape:
            sizes = [" x ".join(map(str, shape[1:])) for shape in (first.shape, one.shape)]
            found = f"{sizes[0]} pixels (height x width), but {one.key} has {sizes[1]}"
            fix = "set prepare.image_px: [height, width] in params.yaml, to which all are scaled and cut"
            raise DataError(first.key, found, expected="images of one size", fix=fix)


def _write(some: Split, whole: list[Made], form: ImageForm) -> tuple[float, float]:
    """Bytes on disk of an image in data/prepare (and of its line in samples.tsv), and seconds to write it there: the
    difference between many and few."""
    sizes, seconds = [], []
    for times in (1, 1, _WRITTEN_TIMES):  # the first one for what is done once
        rows = np.tile(np.arange(len(some)), times)
        split = Split(some.images[rows], some.hard_labels[rows], some.sample_ids[rows])
        written = SplitRows.of(split)
        if form.storage == "encoded":
            contents = [np.frombuffer(whole[row].stored, np.uint8) for row in rows]
            lengths = np.array([len(content) for content in contents])
            written = replace(written, sizes=lengths, contents=partial(_from, contents))
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write_split(Path(folder, "train.zarr"), written, some.images.shape[1:])
            seconds.append(time.perf_counter() - start)
            sizes.append(tree_bytes(Path(folder)))
    more = (_WRITTEN_TIMES - 1) * len(some)
    line = np.mean([len(f"{one.sample_id:016x}\t{one.split}\t{one.label}\t{one.key}\n") for one in whole])
    return sizes[1] / len(some) + float(line), max(0.0, seconds[2] - seconds[1]) / more


def _from(contents: list[np.ndarray], first: int) -> Iterator[np.ndarray]:
    yield from contents[first:]


@contextmanager
def spared(raw: Path) -> Iterator[Path]:
    """A folder for downloads that shows what is in `raw`, and is gone afterwards with whatever else was put there."""
    with tempfile.TemporaryDirectory() as name:
        for path in raw.rglob("*") if raw.is_dir() else ():
            if path.is_file():
                place = Path(name, path.relative_to(raw))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(path.resolve())
        yield Path(name)
