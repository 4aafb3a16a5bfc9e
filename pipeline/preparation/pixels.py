"""A look at the pixels of some images: grey or colour, sizes, and how many bits are used.

What `channels: null` and `bits: null` stand for is decided here, for the stage and for the doctor.
The look is at some images only. An image that was not looked at may ask for a wider form (colour,
more bits), which filling.py then takes for all.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.data.decoding import height_and_width, highest_value, num_channels
from pipeline.data.file_content import DecodeError, read
from pipeline.preparation.form import Look
from pipeline.preparation.make import FOUND, MOST_BITS, Found, ImageForm, depth
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import RawImage, Source

_LEAST_BITS = 8
_MOST_SIGNS = 70  # of an example


@dataclass
class PixelLook(Look):
    """The images that were looked at.

    Attributes:
        channels: Images by number of channels.
        sizes: Images by height and width.
        highest: The highest value of each file that has 16 bits.
        examples: The first image of each number of channels.
    """

    channels: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    highest: list[int] = field(default_factory=list)
    examples: dict[int, str] = field(default_factory=dict)

    def add(self, raw: RawImage) -> None:
        """Looks at one more image; one that is broken is passed over, because its reader reports
        it.
        """
        try:
            content = read(raw.of_image)
            channels, size, highest = num_channels(content), height_and_width(content), highest_value(content)
        except DecodeError:
            return
        self.channels[channels] += 1
        self.sizes[size] += 1
        self.examples.setdefault(channels, raw.key)
        if highest is not None:
            self.highest.append(highest)

    def decided(self, settings: Prepare, source: Source, raw: Path) -> ImageForm:
        """Returns the form with what it leaves open: colour if one image has it, and the fewest
        bits that hold every value.
        """
        form = settings.form
        found: list[Found] = [name for name in FOUND if getattr(form, name) is None]
        bits = depth(max([_LEAST_BITS, *(value.bit_length() for value in self.highest)]))
        return replace(
            form,
            channels=form.channels or (3 if self.channels[3] else 1),
            bits=form.bits or bits,
            is_found=frozenset(found),
        )

    def lines(self, form: ImageForm) -> list[str]:
        """Returns lines about the images, and about the form that is made of them."""
        return [self._colour(form), self._size(form), *self._depth(form)]

    def _colour(self, form: ImageForm) -> str:
        made = {1: "grey (1 channel)", 3: "colour (3 channels)"}[form.channels or 1]
        names = {1: "grey", 3: "coloured"}
        seen = [f"{count:,} {names[each]}, e.g. {_short(self.examples[each])}" for each, count in self.channels.items()]
        return f"colour: {made}; {self.channels.total():,} images were looked at: {'; '.join(seen) or 'none is whole'}"

    def _size(self, form: ImageForm) -> str:
        least, most = (" x ".join(map(str, choose(self.sizes, default=(0, 0)))) for choose in (min, max))
        made = f", each made {form.image_px[0]} x {form.image_px[1]}" if form.image_px else ""
        found = f"all {least}" if least == most else f"{least} to {most}, {len(self.sizes):,} different ones"
        return f"sizes: {found} pixels (height x width){made}"

    def _depth(self, form: ImageForm) -> list[str]:
        if not self.highest:
            return []
        found = f"{len(self.highest):,} of these files have {MOST_BITS} bits, with values up to {max(self.highest):,}"
        return [f"bits: {found}; {form.bits} bits are read (prepare.bits: another number)"]


def _short(key: str) -> str:
    return repr(key if len(key) <= _MOST_SIGNS else f"...{key[-_MOST_SIGNS:]}")
