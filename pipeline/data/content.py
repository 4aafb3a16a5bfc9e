"""The content of inputs: the things that their numbers stand for, of which sample ids are made."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Int32, Integer, UInt8, UInt64

from pipeline.core.errors import DataError, repaired
from pipeline.data.input_kinds import IMAGE, PAD, InputKind

_FIX = repaired("prepare")


@dataclass(frozen=True, eq=False)
class Content:
    """The things that the inputs of a data set stand for.

    Attributes:
        kind: Their kind.
        detail: What else decides what a number means: the rate of sounds, the columns of rows.
        words: The words that numbers stand for, from 0 on, where inputs are texts.
    """

    kind: InputKind = IMAGE
    detail: str = ""
    words: tuple[str, ...] = ()

    def ids(self, inputs: Integer[np.ndarray, "samples ..."]) -> UInt64[np.ndarray, " samples"]:
        """Returns 64 bits of BLAKE2b over each input and what makes it mean something.

        Of an image these are its shape and its pixels; of a sound its rate, its length and its
        samples; of a row its columns and its numbers; of a text its words, whatever their numbers
        are. An id is never 0, which is the fill value on disk.
        """
        if self.kind.name == "tokens":
            lengths = (inputs != PAD).sum(axis=1).tolist()
            contents = [self._meanings[row[:length]].tobytes() for row, length in zip(inputs, lengths, strict=True)]
            key = b"tokens"
        else:
            shape = _key_of(inputs.shape[1:])
            key = shape if self.kind == IMAGE else f"{self.kind.name}:{self.detail}:".encode() + shape
            little = inputs.astype(inputs.dtype.newbyteorder("<"), copy=False)
            contents = [one.tobytes() for one in little]
        digests = b"".join(hashlib.blake2b(one, digest_size=8, key=key).digest() for one in contents)
        ids = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
        return np.where(ids == 0, np.uint64(1), ids)

    def id_of_image(self, image: UInt8[np.ndarray, "channels height width"]) -> int:
        """Returns what `ids` does of one image, without a copy of it."""
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8, key=_key_of(image.shape)).digest()
        return int.from_bytes(digest, "little") or 1

    def check(
        self, inputs: Integer[np.ndarray, "samples ..."], ids: UInt64[np.ndarray, " samples"], where: object
    ) -> None:
        """Raises DataError where an input is not the one that its id was made of.

        A lost file, for example, reads as zeros.
        """
        if not np.array_equal(self.ids(inputs), ids):
            raise DataError(where, f"some {self.kind.things} are not those of their sample ids", fix=_FIX)

    @cached_property
    def _meanings(self) -> UInt64[np.ndarray, " words"]:
        """Returns 64 bits for each word; padding and a hidden word have some, too."""
        digests = b"".join(hashlib.blake2b(word.encode(), digest_size=8).digest() for word in self.words)
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)

    @cached_property
    def signs(self) -> Int32[np.ndarray, " words"] | None:
        """The sign of each number, by which it can be compared with those of another data set; None
        where numbers can be.

        The number of a word depends on the other words of its data set; 32 bits of its digest do
        not.
        """
        if not self.words:
            return None
        signs: np.ndarray = (self._meanings >> np.uint64(32)).astype(np.uint32).view(np.int32)
        return signs


@lru_cache
def _key_of(shape: tuple[int, ...]) -> bytes:
    return ",".join(map(str, shape)).encode()


IMAGES = Content()
