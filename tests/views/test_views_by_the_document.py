"""Views of texts, sounds and rows by the words of docs/store-format.md alone, in plain Python."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from kinds import make_kind_split

from pipeline.data.input_kinds import InputKindName
from pipeline.labels.canaries import make_canaries
from pipeline.views.plan import plan_view
from pipeline.views.spec import ViewSpec

SEED, VIEW = 2**40 + 7, 3
Words = list[int]
Sample = list[int]


def philox(key: int, counter: tuple[int, int, int, int]) -> Words:
    """Returns the four words of Philox4x32-10."""
    mask, (c0, c1, c2, c3) = 0xFFFFFFFF, counter
    k0, k1 = key & mask, key >> 32 & mask
    for _ in range(10):
        one, other = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = other >> 32 ^ c1 ^ k0, other & mask, one >> 32 ^ c3 ^ k1, one & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return [c0, c1, c2, c3]


def words_of(sample_id: int, slot: int) -> Words:
    return philox(SEED, (sample_id & 0xFFFFFFFF, sample_id >> 32, VIEW, slot))


def yes(word: int, probability: float) -> bool:
    return word < round(2**32 * probability)


def place(word: int, length: int, room: int) -> int:
    return word * (room - length + 1) >> 32


def cut(values: list[int]) -> Sample:
    """Rounds units of 1/65536, and cuts to 16 bits."""
    return [max(-32768, min(32767, (value + 32768) // 65536)) for value in values]


# Words.


def chance(w: Words, share: float) -> Callable[[int], bool]:
    return lambda j: yes(philox(0, (w[0], w[1], j // 4, 0))[j % 4], share)


def padded(words: Sample, most: int) -> Sample:
    return words + [0] * (most - len(words))


def window_words(x: Sample, w: Words, words: int) -> Sample:
    text = [word for word in x if word]
    start = w[0] * (max(0, len(text) - words) + 1) >> 32
    return padded(text[start : start + words] if len(text) > words else text, len(x))


def drop_words(x: Sample, w: Words, share: float) -> Sample:
    happens, text = chance(w, share), [word for word in x if word]
    return padded([word for j, word in enumerate(text) if not happens(j)] or text[:1], len(x))


def mask_words(x: Sample, w: Words, share: float) -> Sample:
    happens = chance(w, share)
    return [1 if word and happens(j) else word for j, word in enumerate(x)]


def swap_words(x: Sample, w: Words, share: float) -> Sample:
    happens, f, found = chance(w, share), w[2] % 2, list(x)
    length = sum(word > 0 for word in x)
    for i in range(length + 1):
        one, other = 2 * i - f, 2 * i - f + 1
        if one >= 0 and other < length and happens(i):
            found[one], found[other] = x[other], x[one]
    return found


# Sounds.


def shift(x: Sample, w: Words, most_samples: int) -> Sample:
    zeros, start = [0] * most_samples, w[0] * (2 * most_samples + 1) >> 32
    return [*zeros, *x, *zeros][start : start + len(x)]


def gain(x: Sample, w: Words, decibels: list[float]) -> Sample:
    d = decibels[0] + (decibels[1] - decibels[0]) * w[0] / 2**32
    g = round(65536 * 10 ** (d / 20))
    return cut([value * g for value in x])


def time_mask(x: Sample, w: Words, most_samples: int) -> Sample:
    m = w[0] * (most_samples + 1) >> 32
    first = place(w[1], m, len(x))
    return [0 if first <= t < first + m else value for t, value in enumerate(x)]


def frequency_mask(x: Sample, w: Words, most_share: float) -> Sample:
    m = w[0] * (round(256 * most_share) + 1) >> 32
    e = place(w[1], m, 256)

    def h(k: int, j: int) -> int:
        sinc = k / 256 if j == 0 else math.sin(math.pi * k / 256 * j) / (math.pi * j)
        return round(65536 * sinc * (0.5 + 0.5 * math.cos(math.pi * j / 33)))

    c = {j: h(e, j) - h(e + m, j) + 65536 * (j == 0) for j in range(-32, 33)}
    reach = range(-32, 33)
    return cut([sum(x[t + j] * c[j] for j in reach if 0 <= t + j < len(x)) for t in range(len(x))])


@cache
def pool() -> Sample:
    words = ((w for j in range(3) for w in philox(0x6E6F697365, (i, j, j, j))) for i in range(65536))
    return [sum(2 * (w >> 20) - 4095 for w in twelve) for twelve in words]


def noise(x: Sample, w: Words, probability: float, decibels: list[float]) -> Sample:
    if not yes(w[0], probability):
        return x
    d = decibels[0] + (decibels[1] - decibels[0]) * w[1] / 2**32
    g, b = round(65536 * 10 ** (-d / 20)), w[2] * 65536 >> 32
    r, q = math.sqrt(sum(v * v for v in x) / len(x)), math.sqrt(sum(z * z for z in pool()) / 65536)
    f = math.floor(r * g / q + 0.5)
    return cut([65536 * value + f * pool()[(b + t) % 65536] for t, value in enumerate(x)])


# Rows.


def drop_columns(x: Sample, w: Words, share: float, columns: list[int] | None) -> Sample:
    chosen = range(len(x)) if columns is None else columns
    first = [philox(0x636F6C756D6E73, (w[0], w[1], j, 0))[0] for j in range(len(x))]
    return [0 if j in chosen and yes(first[j], share) else value for j, value in enumerate(x)]


ROWS: dict[str, tuple[InputKindName, Callable[..., Sample], dict[str, Any]]] = {
    "window_words": ("tokens", window_words, {"words": 6}),
    "drop_words": ("tokens", drop_words, {"share": 0.3}),
    "drop_all_words": ("tokens", drop_words, {"share": 1.0}),
    "mask_words": ("tokens", mask_words, {"share": 0.3}),
    "swap_words": ("tokens", swap_words, {"share": 0.6}),
    "shift": ("waveform", shift, {"most_samples": 300}),
    "gain": ("waveform", gain, {"decibels": [-6.0, 24.0]}),
    "time_mask": ("waveform", time_mask, {"most_samples": 400}),
    "frequency_mask": ("waveform", frequency_mask, {"most_share": 0.4}),
    "noise": ("waveform", noise, {"probability": 0.7, "decibels": [-5.0, 20.0]}),
    "drop_columns": ("row", drop_columns, {"share": 0.5, "columns": None}),
    "drop_some_columns": ("row", drop_columns, {"share": 0.5, "columns": [0, 2]}),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_view_is_what_the_document_says(name: str) -> None:
    kind, by_document, settings = ROWS[name]
    first = {"kind": "drop_words", "share": 0.1} if kind == "tokens" else None
    operations = [*([first] if first else []), {"kind": by_document.__name__, **settings}]
    split = make_kind_split(kind, 12)
    spec = ViewSpec.from_dict({"seed": SEED, "plain_first": False, "operations": operations}, "views")
    views = plan_view(split, spec, VIEW).render(slice(None))
    for sample_id, sample, view in zip(split.sample_ids.tolist(), split.inputs.tolist(), views.tolist(), strict=True):
        for position, operation in enumerate(operations):
            own = {key: value for key, value in operation.items() if key != "kind"}
            words = words_of(sample_id, 2 * position)
            sample = globals()[operation["kind"]](sample, words, **own)
        assert view == sample


@pytest.mark.parametrize("kind", ["tokens", "waveform", "row"])
def test_canaries_are_what_the_document_says(kind: InputKindName) -> None:
    split, spec = make_kind_split(kind, 12), ViewSpec(seed=SEED, plain_first=False, operations=())
    canaries = make_canaries(split, spec, [VIEW], 8)
    rows = {int(sample_id): sample for sample_id, sample in zip(split.sample_ids, split.inputs, strict=True)}
    for sample_id, kept in zip(canaries.sample_ids.tolist(), canaries.rendered, strict=True):
        sample = rows[sample_id]
        slots = [words_of(sample_id, 256 + i) for i in range(8)]
        places = [place(w, 1, len(sample)) for words in slots for w in (words[1], words[3])]
        found, signs = sample.numpy()[places], split.content.signs
        np.testing.assert_array_equal(kept[0], found if signs is None else signs[found])
