"""A raw image made ready: decoded, fitted to one size, and kept as pixels or as an encoded file."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from pipeline.data.decoding import (
    DeepPixelsError,
    decode,
    height_and_width,
    highest_value,
    num_channels,
    to_jpeg,
    to_png,
)
from pipeline.data.file_content import DecodeError, read
from pipeline.data.images import Storage
from pipeline.data.input_kinds import IMAGE, InputKind
from pipeline.data.sample_ids import sample_id
from pipeline.preparation.form import Form
from pipeline.preparation.made import Broken, Made, Wider
from pipeline.preparation.maps import make_map
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.sources.mask import Mask

Channels = Literal[1, 3]
Stored = bytes | UInt8[np.ndarray, "channels height width"]
Found = Literal["channels", "bits"]
FOUND: tuple[Found, ...] = ("channels", "bits")
MOST_BITS = 16
_DEPTHS = (8, 10, 12, 14, MOST_BITS)


@dataclass(frozen=True)
class ImageForm(Form):
    """The form that every image is made into.

    Attributes:
        channels: None until images have been looked at; `bits` likewise.
        image_px: Height and width; None when images have one size already.
        longest_px: The most that an encoded image's longer side may have.
        bits: Of files with 16 bits, the lower ones that are used.
        is_found: The attributes that a look at images decided, so that another image may widen
            them.
    """

    channels: Channels | None
    image_px: tuple[int, int] | None
    storage: Storage
    longest_px: int | None
    bits: int | None = None
    is_found: frozenset[Found] = frozenset()

    kind: ClassVar[InputKind] = IMAGE

    @property
    def num_counted(self) -> int:
        return self.channels or 0

    def found(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FOUND}

    def with_found(self, found: Mapping[str, Any]) -> "ImageForm":
        return replace(self, **found)

    def make(self, raw: RawImage) -> Made | Broken | Wider:
        """Returns an image as it is kept; several threads do this at a time."""
        try:
            content = read(raw.of_image)
            if self.channels == 1 and "channels" in self.is_found and num_channels(content) == 3:
                return Wider(raw.key, "has colour", replace(self, channels=3))
            return self._made(raw, content)
        except DeepPixelsError as error:
            if "bits" in self.is_found:
                return Wider(raw.key, f"uses {error.bits} bits", replace(self, bits=depth(error.bits)))
            return Broken(raw.key, f"{error.reason} (prepare.bits: {self.bits})")
        except DecodeError as error:
            return Broken(raw.key, error.reason)

    def _made(self, raw: RawImage, content: Stored) -> "Made":
        assert self.channels is not None, "images have been looked at"
        assert self.bits is not None, "images have been looked at"
        # Pixels are decoded from the file that is kept, so that id and statistics are those of what
        # is read later.
        encoded = self._encoded(content, self.channels, self.bits) if self.storage == "encoded" else None
        pixels = decode(content if encoded is None else encoded, self.channels, self.image_px, self.bits)
        pixels = np.ascontiguousarray(pixels)  # an array of images with their channels last is a view
        label, map_ = raw.label, None
        if isinstance(raw.label, Mask):
            height, width = pixels.shape[1:]
            label, map_ = None, make_map(raw.label, height_and_width(content), (height, width))
        counted = pixels if raw.split == "train" else None
        stored = pixels.data.cast("B") if encoded is None else encoded
        return Made(
            raw.split, label, raw.key, pixels.shape, sample_id(pixels), stored, zlib.crc32(stored), counted, map_
        )

    def _encoded(self, content: Stored, channels: Channels, bits: int) -> bytes:
        """Returns the file that is kept of an image: its own, unless it is too large, is not a file
        yet, or uses only some of its 16 bits, which readers do not know.
        """
        if self.longest_px and max(height_and_width(content)) > self.longest_px:
            return to_jpeg(decode(content, channels, bits=bits), self.longest_px)
        if isinstance(content, bytes) and (bits == MOST_BITS or highest_value(content) is None):
            return content
        return to_png(decode(content, channels, bits=bits))


def depth(bits: int) -> int:
    """Returns the usual number of bits, of those that cameras and scanners have, that holds so
    many.
    """
    return next(usual for usual in _DEPTHS if usual >= bits)
