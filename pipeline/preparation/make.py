"""A raw image made ready: decoded, fitted to one size, and kept as pixels or as an encoded file."""

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from pipeline.data.decoding import (
    DecodeError,
    DeepPixelsError,
    decode,
    height_and_width,
    highest_value,
    num_channels,
    read,
    to_jpeg,
    to_png,
)
from pipeline.data.images import Storage
from pipeline.data.sample_ids import sample_ids
from pipeline.preparation.maps import Map, make_map
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.sources.label_sets import Label
from pipeline.preparation.sources.mask import Mask
from pipeline.preparation.statistics import count_levels

Channels = Literal[1, 3]
Stored = bytes | UInt8[np.ndarray, "channels height width"]
Found = Literal["channels", "bits"]
FOUND: tuple[Found, ...] = ("channels", "bits")
MOST_BITS = 16
_DEPTHS = (8, 10, 12, 14, MOST_BITS)


@dataclass(frozen=True)
class ImageForm:
    """The form that every image is made into.

    Attributes:
        channels: None until images have been looked at; `bits` likewise.
        image_px: Height and width; None when images have one size already.
        longest_px: The most that an encoded image's longer side may have.
        bits: Of files with 16 bits, the lower ones that are used.
        found: The attributes that a look at images decided, so that another image may widen them.
    """

    channels: Channels | None
    image_px: tuple[int, int] | None
    storage: Storage
    longest_px: int | None
    bits: int | None = None
    found: frozenset[Found] = frozenset()

    def make(self, raw: RawImage) -> "Made | Broken | Wider":
        """Returns an image as it is kept; several threads do this at a time."""
        try:
            content = read(raw.content)
            if self.channels == 1 and "channels" in self.found and num_channels(content) == 3:
                return Wider(raw.key, "has colour", replace(self, channels=3))
            return self._made(raw, content)
        except DeepPixelsError as error:
            if "bits" in self.found:
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
        label, map_ = raw.label, None
        if isinstance(raw.label, Mask):
            height, width = pixels.shape[1:]
            label, map_ = None, make_map(raw.label, height_and_width(content), (height, width))
        levels = count_levels(pixels[None]) if raw.split == "train" else None
        sample_id = int(sample_ids(pixels[None])[0])
        stored = pixels.tobytes() if encoded is None else encoded
        return Made(raw.split, label, raw.key, pixels.shape, sample_id, stored, zlib.crc32(stored), levels, map_)

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


@dataclass(frozen=True)
class Made:
    """An image as it is kept.

    Attributes:
        stored: Its pixels, or its encoded file.
        crc: CRC-32 of `stored`.
        levels: How often each pixel level is in it; None unless it is for training.
        map: The class of each pixel, where it came with a mask; `label` is then None.
    """

    split: str
    label: Label
    key: str
    shape: tuple[int, ...]
    sample_id: int
    stored: bytes
    crc: int
    levels: Int64[np.ndarray, "channels 256"] | None
    map: Map | None = None

    @property
    def num_bytes(self) -> int:
        """The bytes that the image and its map take in the pool."""
        return len(self.stored) + (0 if self.map is None else self.map.nbytes)


@dataclass(frozen=True)
class Broken:
    """An image that can't be decoded, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Wider:
    """An image that does not fit into the form that was found, and the form that it asks for."""

    key: str
    reason: str
    form: ImageForm
