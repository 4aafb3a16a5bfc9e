"""A look at a source whose images are not prepared yet: a few of them are made ready, and timed."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer

from pipeline.core.errors import DataError
from pipeline.core.threads import map_in_order
from pipeline.data.content import IMAGES
from pipeline.data.content_files import read_content
from pipeline.data.decoding import decode, fit, height_and_width
from pipeline.data.file_content import DecodeError
from pipeline.data.manifest import DatasetManifest
from pipeline.data.signal_kinds import SignalKind
from pipeline.data.splits import SplitInMemory
from pipeline.doctor.images import LOOKED_AT, Look, places, shape_note
from pipeline.doctor.load import idle_clock
from pipeline.doctor.trials import try_preparing
from pipeline.preparation.form import Form
from pipeline.preparation.listing import Listing, list_images
from pipeline.preparation.made import Broken, Made, Wider
from pipeline.preparation.make import ImageForm
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.piece import Piece
from pipeline.preparation.presence import check_files
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.split_names import SPLITS
from pipeline.preparation.statistics import channel_statistics
from pipeline.preparation.understood import Understood, understand


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
        self._listing, self._listing_seconds = _listed(source, raw)

    @property
    def signal(self) -> SignalKind:
        """The meaning of labels."""
        return self._source.signal

    @property
    def understood(self) -> Understood:
        """The facts that a person checks at a glance."""
        return understand(self._source, self.class_names, self._listing, self._settings, self.form)

    @cached_property
    def form(self) -> Form:
        """The form that prepare would give the samples, before it meets one that asks for a wider
        one. Where all samples decide it, they are read for it.
        """
        return self._listing.look.decided(self._settings, self._source, self._raw)

    def resized(self, short_px: int) -> "SourceLook":
        """Returns a look at the same images, each made a square of this size; broken ones are
        skipped.
        """
        other = copy(self)
        other._settings = replace(self._settings, image_px=(short_px, short_px), broken="skip")
        other.__dict__.pop("form", None)
        return other

    def look(self, folder: Path | None = None) -> Look:
        """Returns what is known of the samples, with the time that preparing them will take.

        Args:
            folder: For files that networks need of a data set; networks for images need none. They
                are made of what was looked at alone.
        """
        # 1. Make a few images ready, as prepare would, and time it.
        raws = list(self._some()) or [raw for split, raw in self._listing.firsts.items() if split == "train"]
        self._made(raws[:1])  # the first one also sets the decoder up
        with idle_clock(os.cpu_count()) as clock:
            start = clock.read()
            form, made = self._made(raws)
            seconds = clock.read() - start
        whole = [one for one in made if isinstance(one, Made)]
        broken = [one for one in made if isinstance(one, Broken)]
        if broken and (self._settings.broken == "refuse" or not whole):
            things = f"{len(made)} {form.kind.things}"
            found = f"{broken[0].reason}; {len(broken)} of the {things} that were looked at are broken"
            fix = "fix or remove them, or set prepare.broken: skip in params.yaml"
            raise DataError(broken[0].key, found, fix=fix)
        _check_sizes(whole)
        # 2. Try the rest of the work: the pool, and the files of the data set.
        some, data = self._prepared(whole, form, folder)
        pool = partial(Piece, form=form, numbering=self._numbering, count=self.count)
        with idle_clock(os.cpu_count()) as clock:
            trial = try_preparing(pool, raws, seconds, some, whole, clock)
        # 3. Estimate the whole data set from these.
        return Look(
            some,
            data,
            self._class_counts(),
            self.understood,
            self._firsts_seen(form),
            trial.image_bytes,
            float(np.mean([one.num_bytes for one in whole])),
            trial.seconds + self._listing_seconds / self._listing.split_sizes.total(),
            folder,
            trial.fault,
        )

    def sizes(self) -> list[tuple[int, int]]:
        """Returns height and width of some training images as they are, without broken ones."""
        sizes = []
        for raw in self._some():
            with suppress(DecodeError):
                sizes.append(height_and_width(raw.of_image))
        return sizes

    def _some(self) -> Iterator[RawImage]:
        """Yields a few training images from all over the source.

        A source that does not count its images is taken to end where listing ended.
        """
        total = self.count or self._listing.split_sizes.total()
        for rows in places(total, LOOKED_AT):
            raws = islice(self._source.images(self._raw, rows.start), len(rows))
            yield from (raw for raw in raws if raw.split == "train")

    def _made(self, raws: list[RawImage]) -> tuple[Form, list[Made | Broken]]:
        """Returns the images in the form that prepare would give them, and that form."""
        form = self.form
        while True:
            made = list(map_in_order(form.make, raws, os.cpu_count() or 1))
            wider = next((one.form for one in made if isinstance(one, Wider)), None)
            if wider is None:
                return form, [one for one in made if not isinstance(one, Wider)]
            form = wider

    def _prepared(self, whole: list[Made], form: Form, folder: Path | None) -> tuple[SplitInMemory, DatasetManifest]:
        """Returns some samples as they will be, and about the manifest that prepare will write."""
        images = []
        for one in whole:
            if form.storage == "pixels":
                images.append(np.frombuffer(one.stored, form.kind.dtype).reshape(one.shape))
            else:
                assert isinstance(form, ImageForm), "nothing else is stored as files"
                assert form.channels is not None, "it was found"
                pixels = decode(bytes(one.stored), form.channels)
                images.append(fit(pixels, form.image_px) if form.image_px else pixels)
        labels = torch.from_numpy(self._numbering.of_images(whole))
        ids = np.array([one.sample_id for one in whole], dtype=np.uint64)
        inputs = np.stack(images)
        data, content = self._data(inputs, form), IMAGES
        if folder is not None:
            data = replace(data, input=form.facts(folder, iter([inputs])))
            content = read_content(folder, data)
        return SplitInMemory(torch.from_numpy(inputs), labels, ids, content), data

    def _data(self, inputs: Integer[np.ndarray, "some ..."], form: Form) -> DatasetManifest:
        """Returns about the manifest that prepare will write, without what it states about samples
        that are no images.
        """
        sizes = self._split_sizes
        mean, std = channel_statistics(inputs) if form.num_counted else ([], [])
        shape = list(inputs.shape[1:])
        data = DatasetManifest(self._source.kind, list(self.class_names), shape, mean, std, sizes, {}, 0, 0)
        num_unlabelled = self._by_split["train"][None]
        return replace(data, num_unlabelled=num_unlabelled, storage=form.storage, signal=self._source.signal)

    @property
    def _numbering(self) -> Numbering:
        return Numbering(self.class_names, self._source.signal)

    @property
    def _share(self) -> float:
        """The number of all images, about, for each one that was listed."""
        listed = self._listing.split_sizes.total()
        return (self.count or listed) / listed

    @property
    def _split_sizes(self) -> dict[str, int]:
        """The images in each split, about, with those that will be held out."""
        if self._source.signal == "categorical":
            return {split: counts.total() for split, counts in self._by_split.items()}
        sizes = {split: round(self._share * self._listing.split_sizes[split]) for split in SPLITS}
        for split, fraction in (("test", self._settings.test_fraction), ("val", self._settings.val_fraction)):
            if not sizes[split]:
                sizes[split] = round(fraction * (sizes["train"] - self._by_split["train"][None]))
                sizes["train"] -= sizes[split]
        return sizes

    @property
    def _by_split(self) -> dict[str, Counter[str | None]]:
        """The images of each class in each split, about, with those that will be held out."""
        counts = {split: Counter[str | None]() for split in SPLITS}
        share = self._share
        for (split, label), count in self._listing.counts.items():
            counts[split][label] = round(share * count)
        for split, fraction in (("test", self._settings.test_fraction), ("val", self._settings.val_fraction)):
            if not counts[split]:
                for label in filter(None, counts["train"]):
                    counts[split][label] = round(fraction * counts["train"][label])
                counts["train"].subtract(counts[split])
        return counts

    def _class_counts(self) -> dict[str, int] | None:
        """Returns the training images by class, without those that will be held out; None where
        that takes long: of masks all would be read.
        """
        if self.signal == "grid" or not self._listing.is_whole:
            return None
        return {name: self._by_split["train"][name] for name in self.class_names}

    def _firsts_seen(self, form: Form) -> dict[str, tuple[str, bool]]:
        states = {}
        for split, made in ((split, form.make(raw)) for split, raw in self._listing.firsts.items()):
            assert not isinstance(made, Wider), "the first images were looked at"
            if isinstance(made, Broken):
                states[split] = (f"is broken ({made.key}: {made.reason})", True)
            else:
                states[split] = (f"is whole{shape_note(form.kind, made.shape)} ({made.key})", False)
        return states


def _listed(source: Source, raw: Path) -> tuple[Listing, float]:
    """Returns a list of the images, and the seconds that listing them takes an idle machine."""
    with idle_clock(1) as clock:
        start, begin = time.monotonic(), clock.read()
        listing = list_images(source, raw)
        share = (clock.read() - begin) / max(time.monotonic() - start, 1e-9)
    return listing, share * listing.seconds


def _check_sizes(whole: list[Made]) -> None:
    first = whole[0]
    for one in whole:
        if one.shape != first.shape:
            sizes = [" x ".join(map(str, shape[1:])) for shape in (first.shape, one.shape)]
            found = f"{sizes[0]} pixels (height x width), but {one.key} has {sizes[1]}"
            fix = "set prepare.image_px: [height, width] in params.yaml, to which all are scaled and cut"
            raise DataError(first.key, found, expected="images of one size", fix=fix)
