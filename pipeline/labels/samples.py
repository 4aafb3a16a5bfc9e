"""The samples of a store in the order of its rows, each known by a key (docs/store-format.md).

A key is the random word by which prepared rows are ordered, then the low word of the sample id. In
that order, differences of the random words take log2(samples) bits less than the words themselves;
sample ids have no order to save by. So a store of 50,000 samples takes 4.3 bytes for each key where
an id takes 8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from pipeline.core.errors import StoreError
from pipeline.data.sample_ids import find_samples, row_draws

WHOLE_BYTES = 8
_FEWEST_BYTES = 6
_SURE_BITS = 32  # a foreign sample is taken for one of a dump's with a chance of 2^-32 at most
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


@dataclass(frozen=True)
class StoredSamples:
    """The keys of some samples, by row.

    Attributes:
        keys: Only their first `num_bytes` bytes count; the others are 0.
        ids: The sample ids, where they are known: a store keeps keys alone.
    """

    keys: UInt64[np.ndarray, " samples"]
    num_bytes: int = WHOLE_BYTES
    ids: UInt64[np.ndarray, " samples"] | None = None

    @classmethod
    def of(cls, ids: UInt64[np.ndarray, " samples"]) -> "StoredSamples":
        """Returns the whole keys of some sample ids."""
        return cls((row_draws(ids).astype(np.uint64) << _WORD) | (ids & _LOW), ids=ids)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def numbers(self) -> UInt64[np.ndarray, " samples"]:
        """The numbers by which random draws of labels count: ids where they are known, else
        keys.
        """
        return self.keys if self.ids is None else self.ids

    def shortest(self) -> "StoredSamples":
        """Returns the keys as a store keeps them: as few bytes as keep foreign samples out and tell
        its own apart. Where the ids are not known, keys stay as they are.

        Raises StoreError where two different samples have the same whole key.
        """
        if self.ids is None:
            return self
        count, sure = len(np.unique(self.ids)), _SURE_BITS + (len(self) - 1).bit_length()
        for num_bytes in range(max(_FEWEST_BYTES, -(-sure // 8)), WHOLE_BYTES + 1):
            kept = self.cut(num_bytes)
            if len(np.unique(kept.keys)) == count:
                return kept
        raise StoreError("sample keys", "two different samples have the same", fix="leave one of them out")

    def cut(self, num_bytes: int) -> "StoredSamples":
        """Returns the keys with at most their first `num_bytes` bytes."""
        if num_bytes >= self.num_bytes:
            return self
        dropped = np.uint64(8 * (WHOLE_BYTES - num_bytes))
        return replace(self, keys=self.keys >> dropped << dropped, num_bytes=num_bytes)

    def take(self, rows: Int64[np.ndarray, " some"] | slice) -> "StoredSamples":
        """Returns some rows."""
        return replace(self, keys=self.keys[rows], ids=None if self.ids is None else self.ids[rows])

    def find(self, others: "StoredSamples") -> Int64[np.ndarray, " others"]:
        """Returns the row of each of some others (the first of several), -1 where there is none."""
        num_bytes = min(self.num_bytes, others.num_bytes)
        return find_samples(others.cut(num_bytes).keys, self.cut(num_bytes).keys)

    def same(self, others: "StoredSamples") -> bool:
        """Returns whether the others are the same samples in the same order."""
        num_bytes = min(self.num_bytes, others.num_bytes)
        return np.array_equal(self.cut(num_bytes).keys, others.cut(num_bytes).keys)

    @classmethod
    def together(cls, several: Sequence["StoredSamples"]) -> "StoredSamples":
        """Returns the samples of all, each at its first place, with the shortest keys of all.

        Raises StoreError where different samples of one would have the same shorter key.
        """
        num_bytes = min(samples.num_bytes for samples in several)
        short = [samples.cut(num_bytes) for samples in several]
        if any(len(np.unique(a.keys)) < len(np.unique(b.keys)) for a, b in zip(short, several, strict=True)):
            found = f"two different samples of a store have the same {num_bytes} bytes of their keys"
            raise StoreError("merge", found, expected="keys that differ", fix="dump the samples together")
        keys = np.concatenate([samples.keys for samples in short])
        _, places = np.unique(keys, return_index=True)
        ids = [samples.ids for samples in several if samples.ids is not None]
        known = np.concatenate(ids) if len(ids) == len(several) else None
        return cls(keys, num_bytes, known).take(np.sort(places))

    def to_bytes(self) -> UInt8[np.ndarray, "samples bytes"]:
        """Returns the keys as they lie on disk: as bytes, the first one the highest, of the random
        word the difference from the row before.
        """
        words = self.keys >> _WORD
        steps = np.diff(words, prepend=np.uint64(0)) & _LOW
        content = ((steps << _WORD) | (self.keys & _LOW)).astype(">u8").view(np.uint8)
        return content.reshape(-1, WHOLE_BYTES)[:, : self.num_bytes].copy()

    @classmethod
    def from_bytes(cls, content: UInt8[np.ndarray, "samples bytes"]) -> "StoredSamples":
        """Returns the keys that lie on disk as these bytes."""
        count, num_bytes = content.shape
        whole = np.zeros((count, WHOLE_BYTES), np.uint8)
        whole[:, :num_bytes] = content
        numbers = whole.reshape(-1).view(">u8").astype(np.uint64)
        words = np.cumsum(numbers >> _WORD, dtype=np.uint64) & _LOW
        return cls((words << _WORD) | (numbers & _LOW), num_bytes)


def keys_layout(num_samples: int, shape: Sequence[int]) -> tuple[tuple[int, int], np.dtype[np.uint8]]:
    """Returns shape and type of the array of keys, where one of some shape lies on disk."""
    known = len(shape) == 2 and _FEWEST_BYTES <= shape[1] <= WHOLE_BYTES
    return (num_samples, shape[1] if known else WHOLE_BYTES), np.dtype(np.uint8)
