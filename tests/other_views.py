"""Views once more, written from docs/store-format.md alone: one image at a time, with Python's
integers.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Row = dict[str, Any]
Words = list[int]
UNIT = 65536


def sample_id(image: Array) -> int:
    key = ",".join(map(str, image.shape)).encode("ascii")
    digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little") or 1


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns Philox4x32-10 (Salmon et al., 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        x, y = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (y >> 32) ^ c1 ^ k0, y & 0xFFFFFFFF, (x >> 32) ^ c3 ^ k1, x & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def sample_key(sample: int, num_bytes: int) -> int:
    """Returns the first bytes of a sample's key, as a number of 8 bytes."""
    low, high = words_of(sample)
    whole = philox((low, high, 0, 0), (0xDD72DDF1, 0xA03A7F55))[0] << 32 | low
    return whole >> 8 * (8 - num_bytes) << 8 * (8 - num_bytes)


def pixels_kept(views: Row, image: Array, sample: int, view: int, count: int) -> Array:
    """Returns the pixels of a rendered view that a canary keeps, [channels, points]."""
    key, kept = words_of(views["seed"]), []
    for point in range(count):
        drawn = philox((*words_of(sample), view, 256 + point // 2), key)[2 * (point % 2) :]
        row, column = (place_in(word, 1, size) for word, size in zip(drawn[:2], image.shape[1:], strict=True))
        kept.append(image[:, row, column])
    return np.stack(kept, axis=1)


def words_of(number: int) -> tuple[int, int]:
    return number & 0xFFFFFFFF, number >> 32


def words(views: Row, sample: int, view: int, place: int) -> Words:
    """Returns w0 to w7 of the operation at a place of the list."""
    key = words_of(views["seed"])
    return [word for slot in (2 * place, 2 * place + 1) for word in philox((*words_of(sample), view, slot), key)]


def yes(word: int, probability: float) -> bool:
    return word < round(probability * 2**32)


def place_in(word: int, length: int, room: int) -> int:
    return word * (room - length + 1) >> 32


def blend(p: int, q: int, f: int) -> int:
    return min(max((p * f + q * (UNIT - f) + 32768) // UNIT, 0), 255)


def grey(pixel: Sequence[int]) -> int:
    r, g, b = (int(level) for level in pixel)
    return (19595 * r + 38470 * g + 7471 * b + 32768) // UNIT


def sides(row: Row, first: int, second: int) -> tuple[int, int]:
    low, high = row["scale"]
    area = low + (high - low) * first / 2**32
    low, high = (math.log(bound) for bound in row["ratio"])
    ratio = math.exp(low + (high - low) * second / 2**32)
    return round(UNIT * math.sqrt(area / ratio)), round(UNIT * math.sqrt(area * ratio))


def length(side: int, n: int, k: int, area: int) -> int:
    divisor = 2**24 // k
    return min(max((side * math.isqrt(area * UNIT) + divisor // 2) // divisor, k), k * n)


def stretch(line: Sequence[int], start: int, span: int) -> list[int]:
    n = len(line)
    new = []
    for i in range(n):
        x = 2 * n * start + (2 * i + 1) * span - 256 * n
        j = x // (512 * n)
        f = (16384 * (x - 512 * n * j) + 256 * n) // (512 * n)
        before, after = (int(line[min(max(index, 0), n - 1)]) for index in (j, j + 1))
        new.append((before * (16384 - f) + after * f + 8192) // 16384)
    return new


def by_pixel(image: Array, change: Callable[[tuple[int, ...], int], int]) -> Array:
    """Returns an image whose levels `change` computes, each from the pixel's levels in all channels
    and the level itself.
    """
    new = image.copy()
    channels, height, width = image.shape
    for y in range(height):
        for x in range(width):
            pixel = tuple(int(level) for level in image[:, y, x])
            for c in range(channels):
                new[c, y, x] = change(pixel, pixel[c])
    return new


def pad_crop(image: Array, row: Row, w: Words) -> Array:
    pad, (_, height, width) = row["pad_px"], image.shape
    top, left = (w[n] * (2 * pad + 1) >> 32 for n in (0, 1))
    return np.pad(image, ((0, 0), (pad, pad), (pad, pad)))[:, top : top + height, left : left + width]


def resized_crop(image: Array, row: Row, w: Words) -> Array:
    _, height, width = image.shape
    y, x = sides(row, w[0], w[1])
    new = image.copy()
    for axis, side, word, n in ((2, x, w[3], width), (1, y, w[2], height)):
        span = length(side, n, 256, height * width)
        start = place_in(word, span, 256 * n)
        new = np.apply_along_axis(lambda line: stretch(line, start, span), axis, new)  # noqa: B023
    return new.astype(np.uint8)


def flip_horizontal(image: Array, row: Row, w: Words) -> Array:
    return image[:, :, ::-1] if yes(w[0], row["probability"]) else image


def flip_vertical(image: Array, row: Row, w: Words) -> Array:
    return image[:, ::-1] if yes(w[0], row["probability"]) else image


def factor(row: Row, w: Words) -> int:
    most = round(row["strength"] * UNIT)
    return UNIT - most + (w[0] * (2 * most + 1) >> 32)


def brightness(image: Array, row: Row, w: Words) -> Array:
    return by_pixel(image, lambda pixel, level: blend(level, 0, factor(row, w)))


def contrast(image: Array, row: Row, w: Words) -> Array:
    levels = [grey(pixel) for pixel in image.reshape(3, -1).T] if len(image) == 3 else image.ravel().tolist()
    mean = (2 * sum(levels) + len(levels)) // (2 * len(levels))
    return by_pixel(image, lambda pixel, level: blend(level, mean, factor(row, w)))


def saturation(image: Array, row: Row, w: Words) -> Array:
    return by_pixel(image, lambda pixel, level: blend(level, grey(pixel), factor(row, w)))


def erasing(image: Array, row: Row, w: Words) -> Array:
    _, height, width = image.shape
    new = image.copy()
    if yes(w[0], row["probability"]):
        y, x = sides(row, w[1], w[2])
        rows, columns = length(y, height, 1, height * width), length(x, width, 1, height * width)
        top, left = place_in(w[3], rows, height), place_in(w[4], columns, width)
        new[:, top : top + rows, left : left + columns] = row["fill_level"]
    return new


OPERATIONS = {
    f.__name__: f
    for f in (pad_crop, resized_crop, flip_horizontal, flip_vertical, brightness, contrast, saturation, erasing)
}


def render_view(views: Row, image: Array, view: int, sample: int | None = None) -> Array:
    """Returns the view of one image, not yet mixed with another."""
    sample = sample_id(image) if sample is None else sample
    if views["plain_first"] and view == 0:
        return image
    for place, row in enumerate(views["operations"]):
        if row["kind"] in OPERATIONS:
            image = OPERATIONS[row["kind"]](image, row, words(views, sample, view, place))
    return image


def partner_of(views: Row, block: Sequence[int], sample: int, view: int) -> int:
    """Returns the id of the partner in a block of ids."""
    last = len(views["operations"]) - 1
    ring = sorted(set(block), key=lambda other: (words(views, other, view, last)[4], other))
    return ring[(ring.index(sample) + 1) % len(ring)]


def partner_share(row: Row, w: Words) -> int:
    """Returns the share of the partner, z, in units of 1 / `UNIT`."""
    if not yes(w[0], row["probability"]):
        return 0
    alpha, steps = row["alpha"], 4096
    b = min(alpha, 1.0)

    def share(u: float) -> float:
        return float(0.5 * u ** (1 / b))

    mids = [share((k + 0.5) / steps) for k in range(steps)]
    sums = [0.0, *accumulate(x ** (alpha - b) * (1 - x) ** (alpha - 1) for x in mids)]
    wanted = sums[-1] * (w[1] + 0.5) / 2**32
    k = bisect_right(sums, wanted)
    return round(UNIT * share((k - 1 + (wanted - sums[k - 1]) / (sums[k] - sums[k - 1])) / steps))


def mix(views: Row, one: Array, other: Array, sample: int, view: int) -> tuple[Array, float]:
    """Mixes two views that were rendered by themselves; returns the result and the share of the
    first.
    """
    row, w = views["operations"][-1], words(views, sample, view, len(views["operations"]) - 1)
    z = 0 if views["plain_first"] and view == 0 else partner_share(row, w)
    if row["kind"] == "mixup":
        new = [blend(p, q, UNIT - z) for p, q in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)]
        return np.array(new, np.uint8).reshape(one.shape), 1 - z / UNIT
    _, height, width = one.shape
    e = math.isqrt(UNIT * z)
    rows, columns = height * e // UNIT, width * e // UNIT
    top, left = place_in(w[2], rows, height), place_in(w[3], columns, width)
    new_image = one.copy()
    new_image[:, top : top + rows, left : left + columns] = other[:, top : top + rows, left : left + columns]
    return new_image, 1 - rows * columns / (height * width)
