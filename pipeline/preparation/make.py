"""A raw image made ready: decoded, fitted to one size, and kept as pixels or as an encoded file."""

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from pipeline.data.decoding import DecodeError, decode, longest_side, read, to_jpeg, to_png
from pipeline.data.images import Storage
from pipeline.data.sample_ids import sample_ids
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.statistics import count_levels

Channels = Literal[1, 3]


@dataclass(frozen=True)
class ImageForm:
    """The form that every image is made into.

    Attributes:
        channels: None stands for those of the first image.
        image_px: Height and width; None when images have one size already.
        longest_px: The most that an encoded image's longer side may have.
    """

    channels: Channels | None
    image_px: tuple[int, int] | None
    storage: Storage
    longest_px: int | None

    def make(self, raw: RawImage) -> "Made | Broken":
        """Returns an image as it is kept; several threads do this at a time."""
        assert self.channels is not None, "the first image has been looked at"
        try:
            content = read(raw.content)
            # Pixels are decoded from the file that is kept, so that id and statistics are those of
            # what is read later.
            encoded = self._encoded(content, self.channels) if self.storage == "encoded" else None
            pixels = decode(content if encoded is None else encoded, self.channels, self.image_px)
        except DecodeError as error:
            return Broken(raw.key, error.reason)
        levels = count_levels(pixels[None]) if raw.split == "train" else None
        sample_id = int(sample_ids(pixels[None])[0])
        stored = pixels.tobytes() if encoded is None else encoded
        return Made(raw.split, raw.label, raw.key, pixels.shape, sample_id, stored, zlib.crc32(stored), levels)

    def _encoded(self, content: bytes | UInt8[np.ndarray, "channels height width"], channels: Channels) -> bytes:
        """Returns the file that is kept of an image: its own, unless it is too large or is not a
        file yet.
        """
        if self.longest_px and longest_side(content) > self.longest_px:
            return to_jpeg(decode(content, channels), self.longest_px)
        return content if isinstance(content, bytes) else to_png(decode(content, channels))


@dataclass(frozen=True)
class Made:
    """An image as it is kept.

    Attributes:
        stored: Its pixels, or its encoded file.
        crc: CRC-32 of `stored`.
        levels: How often each pixel level is in it; None unless it is for training.
    """

    split: str
    label: str | None
    key: str
    shape: tuple[int, ...]
    sample_id: int
    stored: bytes
    crc: int
    levels: Int64[np.ndarray, "channels 256"] | None


@dataclass(frozen=True)
class Broken:
    """An image that can't be decoded, and why."""

    key: str
    reason: str
