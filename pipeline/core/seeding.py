"""Counter-based random numbers: a draw is a pure function of (seed, counter), so nothing has a
state to lose.

The same code runs on numpy and torch integers of 64 bits and gives the same bits on any device: a
product of two 32-bit words wraps in a signed 64-bit word without losing a bit, and shifting right
then masking recovers both halves.

References:
    John K. Salmon, Mark A. Moraes, Ron O. Dror, David E. Shaw, "Parallel random numbers: as easy as
    1, 2, 3", 2011, doi:10.1145/2063384.2063405, sections 3.3 (Philox) and 4.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Int64

if TYPE_CHECKING:
    import torch

Words = TypeVar("Words", np.ndarray, "torch.Tensor")  # a helper of `prepare` begins without torch

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(seed: int, counter: tuple[Words, Words, Words, Words]) -> tuple[Words, Words, Words, Words]:
    """Returns four random words per element, each in [0, 2^32).

    They are Philox4x32-10, keyed by the 64 bits of `seed`.

    Args:
        seed: The key; only its low 64 bits count.
        counter: Four int64 arrays or tensors of one shape; only their low 32 bits count.
    """
    key0, key1 = seed & _MASK, (seed >> 32) & _MASK
    c0, c1, c2, c3 = (word & _MASK for word in counter)
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ key0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ key1,
            product0 & _MASK,
        )
        key0, key1 = (key0 + _WEYL[0]) & _MASK, (key1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def integers_below(words: Words, bound: int) -> Words:
    """Returns uniform integers in [0, bound) from random words (bias below bound / 2^32)."""
    return (words * bound) >> 32


def permutation(seed: int, count: int, turn: int) -> Int64[np.ndarray, " count"]:
    """Returns a random order of range(count), another one for each `turn` (an epoch)."""
    return shuffle(seed, np.arange(count, dtype=np.int64), turn)


def shuffle(seed: int, numbers: Int64[np.ndarray, " some"], turn: int) -> Int64[np.ndarray, " some"]:
    """Returns the positions of some ascending numbers, in the order in which `permutation` has
    them.

    That order is the one among all numbers.
    """
    high, low, _, _ = philox(seed, (numbers, numbers >> 32, np.full_like(numbers, turn), np.full_like(numbers, -1)))
    return np.argsort((high << 31) | (low >> 1), kind="stable")


def derive_seed(seed: int, purpose: str) -> int:
    """Returns a seed of its own for a purpose (`order`, `views`).

    So two uses of one seed do not share numbers.
    """
    word = np.frombuffer(purpose.encode().ljust(16, b"\0")[:16], dtype=np.int32).astype(np.int64)
    counter = tuple(word[i : i + 1] for i in range(4))
    high, low, _, _ = philox(seed, counter)  # type: ignore[arg-type]
    return int(high[0]) << 32 | int(low[0])
