"""A list of a source's images by split and class, as far as a few seconds go."""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.file_content import DecodeError
from pipeline.preparation.form import Look
from pipeline.preparation.looks import LOOKS
from pipeline.preparation.maps import read_mask
from pipeline.preparation.pixel_shares import PixelShares
from pipeline.preparation.pixels import PixelLook
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.label_sets import classes_of
from pipeline.preparation.sources.mask import Mask

LISTING_SECONDS = 10.0  # for which a source is asked for labels: reading all may take hours
_LOOKED_AT = 200  # images at least, if there are so many


@dataclass
class Listing:
    """The images that were listed.

    Attributes:
        counts: Images by split and class; the class None stands for unlabelled ones.
        split_sizes: Images by split.
        firsts: The first image of each split.
        masks: The classes of the pixels of those images; None where labels are no masks.
        look: A look at the first image of each class in each split, and at some from all over.
        is_whole: Whether these are all images.
        seconds: The time that listing these images takes.
    """

    counts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    split_sizes: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, RawImage] = field(default_factory=dict)
    look: Look = field(default_factory=PixelLook)
    masks: PixelShares | None = None
    is_whole: bool = True
    seconds: float = 0.0

    def add(self, image: RawImage, is_looked_at: bool) -> None:
        """Counts an image; it is looked at where told, and where it is the first of a class."""
        places = [(image.split, name) for name in classes_of(image.label)]
        if is_looked_at or any(place not in self.counts for place in places):
            self.look.add(image)
            if isinstance(image.label, Mask):
                self._count(image.label)
        for place in places:  # `update` takes ten times as long to add one
            self.counts[place] += 1
        self.split_sizes[image.split] += 1
        self.firsts.setdefault(image.split, image)

    def _count(self, mask: Mask) -> None:
        """Counts the pixels of a mask; one that can't be read is passed over, as its reader reports
        it.
        """
        self.masks = self.masks or PixelShares(len(mask.kind.class_names))
        with suppress(DecodeError):
            self.masks.add([read_mask(mask)[None]])


def list_images(source: Source, raw: Path, seconds: float = LISTING_SECONDS) -> Listing:
    """Returns the images of a source, counted for so many seconds at most where their labels have
    not been read before.
    """
    listing, start = Listing(look=LOOKS[source.input_kind]()), time.monotonic()
    step = max(1, (source.count(raw) or 0) // _LOOKED_AT)
    for number, image in enumerate(source.images(raw)):
        listing.add(image, is_looked_at=number % step == 0)
        listing.seconds = time.monotonic() - start
        if listing.seconds > seconds:
            listing.is_whole = False
            break
    if not listing.is_whole and (counts := source.counts(raw)) and (sizes := source.split_sizes(raw)):
        # The labels have been read, so that these are the counts of all.
        listing.seconds *= sum(sizes.values()) / listing.split_sizes.total()
        listing.counts, listing.split_sizes, listing.is_whole = Counter(counts), Counter(sizes), True
    return listing
