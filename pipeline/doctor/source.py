"""A look at a source whose images are not prepared yet: a few of them are made ready, and timed."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import DataError
from pipeline.core.threads import map_in_order
from pipeline.data.decoding import DecodeError, decode, fit, height_and_width
from pipeline.data.manifest import DatasetManifest
from pipeline.data.splits import UNLABELLED, SplitInMemory
from pipeline.doctor.images import LOOKED_AT, Look, places
from pipeline.doctor.trials import try_preparing
from pipeline.preparation.listing import list_images
from pipeline.preparation.make import Broken, ImageForm, Made, Wider
from pipeline.preparation.pool import Pool
from pipeline.preparation.presence import check_files
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.split_names import SPLITS
from pipeline.preparation.statistics import channel_statistics
from pipeline.preparation.understood import understand


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
        self._made(raws[:1])  # the first one also sets the decoder up
        start = time.perf_counter()
        form, made = self._made(raws)
        seconds = time.perf_counter() - start
        whole = [one for one in made if isinstance(one, Made)]
        broken = [one for one in made if isinstance(one, Broken)]
        if broken and (self._settings.broken == "refuse" or not whole):
            found = f"{broken[0].reason}; {len(broken)} of the {len(made)} images that were looked at are broken"
            fix = "fix or remove them, or set prepare.broken: skip in params.yaml"
            raise DataError(broken[0].key, found, fix=fix)
        _check_sizes(whole)
        # 2. Try the rest of the work: the pool, and the files of the data set.
        some = self._split(whole, form)
        pool = partial(Pool, form=form, class_names=self.class_names, count=self.count)
        trial = try_preparing(pool, raws, seconds, some, whole)
        # 3. Estimate the whole data set from these.
        return Look(
            some,
            self._data(some, form),
            self._class_counts(),
            understand(self._source, self.class_names, self._listing, self._settings),
            self._firsts_seen(form),
            trial.image_bytes,
            float(np.mean([len(one.stored) for one in whole])),
            trial.seconds + self._listing.seconds / self._counts.total(),
            trial.fault,
        )

    def sizes(self) -> list[tuple[int, int]]:
        """Returns height and width of some training images as they are, without broken ones."""
        sizes = []
        for raw in self._some():
            with suppress(DecodeError):
                sizes.append(height_and_width(raw.content))
        return sizes

    def _some(self) -> Iterator[RawImage]:
        """Yields a few training images from all over the source.

        A source that does not count its images is taken to end where listing ended.
        """
        total = self.count or self._counts.total()
        for rows in places(total, LOOKED_AT):
            raws = islice(self._source.images(self._raw, rows.start), len(rows))
            yield from (raw for raw in raws if raw.split == "train")

    def _made(self, raws: list[RawImage]) -> tuple[ImageForm, list[Made | Broken]]:
        """Returns the images in the form that prepare would give them, and that form."""
        form = self._listing.pixels.decided(self._settings.form)
        while True:
            made = list(map_in_order(form.make, raws, os.cpu_count() or 1))
            wider = next((one.form for one in made if isinstance(one, Wider)), None)
            if wider is None:
                return form, [one for one in made if not isinstance(one, Wider)]
            form = wider

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
            assert not isinstance(made, Wider), "the first images were looked at"
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
