"""Views of texts: a pure function of spec, text and number, as plain Python makes them, too."""

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import content_of
from project import environment

from pipeline.core.closure import TOP
from pipeline.core.errors import ConfigError
from pipeline.core.seeding import philox
from pipeline.data.input_kinds import FIRST_WORD, MASKED, PAD, TOKENS
from pipeline.data.splits import SplitInMemory
from pipeline.views.operations import OPERATIONS
from pipeline.views.plan import plan_view
from pipeline.views.spec import ViewSpec, render

MOST = 24
ROWS: dict[str, dict[str, Any]] = {
    "window_words": {"words": 7},
    "drop_words": {"share": 0.3},
    "mask_words": {"share": 0.4},
    "swap_words": {"share": 0.5},
}
ROWS = {kind: {"kind": kind} | row for kind, row in ROWS.items()}
EACH = pytest.mark.parametrize("kind", ROWS)
SEED = 2**41 + 3


def spec_of(*rows: dict[str, Any], plain_first: bool = False) -> ViewSpec:
    return ViewSpec.from_dict({"seed": SEED, "plain_first": plain_first, "operations": list(rows)}, "test")


def make_texts(count: int = 200, seed: int = 0) -> torch.Tensor:
    """Makes texts of no word up to all that there is room for."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(FIRST_WORD, 1000, (count, MOST)).astype(np.int32)
    lengths = rng.integers(0, MOST + 1, count)
    lengths[:3] = (0, 1, MOST)
    texts[np.arange(MOST) >= lengths[:, None]] = PAD
    return torch.from_numpy(texts)


def ids_of(texts: torch.Tensor) -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.integers(1, 2**64, len(texts), dtype=np.uint64)


def views(texts: torch.Tensor, ids: np.ndarray, spec: ViewSpec, view: int = 1) -> torch.Tensor:
    return render(texts, spec.draw(ids, view), spec)


def in_python(kind: str, text: list[int], draws: list[int]) -> list[int]:
    """Returns what an operation makes of the words of one text, one word after the other."""

    def happens(place: int) -> bool:
        words = philox(0, tuple(np.array([each]) for each in (draws[1], draws[2], place // 4, 0)))
        return int(words[place % 4][0]) < round(ROWS[kind]["share"] * 2**32)

    if kind == "window_words":
        room = max(0, len(text) - ROWS[kind]["words"])
        start = draws[1] * (room + 1) // 2**32
        return text[start : start + ROWS[kind]["words"]]
    if kind == "drop_words":
        return [word for place, word in enumerate(text) if not happens(place)] or text[:1]
    if kind == "mask_words":
        return [MASKED if happens(place) else word for place, word in enumerate(text)]
    first = draws[3] % 2
    for pair in range(len(text)):
        left = 2 * pair - first
        if left >= 0 and left + 1 < len(text) and happens(pair):
            text[left], text[left + 1] = text[left + 1], text[left]
    return text


@EACH
def test_an_operation_is_as_plain_python_has_it(kind: str) -> None:
    texts, spec = make_texts(), spec_of(ROWS[kind])
    draws = spec.draw(ids_of(texts), 3)
    found = render(texts, draws, spec)
    for text, of_text, view in zip(texts.tolist(), draws.tolist(), found.tolist(), strict=True):
        expected = in_python(kind, [word for word in text if word != PAD], of_text)
        assert view == expected + [PAD] * (MOST - len(expected))
    assert found.dtype == texts.dtype
    assert not torch.equal(found, texts)


@EACH
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)), cut=st.integers(1, 11))
def test_a_view_does_not_depend_on_batch_or_order(kind: str, order: list[int], cut: int) -> None:
    texts, spec = make_texts(12), spec_of(*ROWS.values(), ROWS[kind])
    ids = ids_of(texts)
    whole = views(texts, ids, spec)
    parts = [views(texts[order][part], ids[order][part], spec) for part in (slice(cut), slice(cut, None))]
    assert torch.equal(torch.cat(parts), whole[order])


def test_room_behind_a_text_changes_no_view() -> None:
    texts, spec = make_texts(), spec_of(*ROWS.values())
    wider = torch.cat([texts, torch.zeros(len(texts), 9, dtype=texts.dtype)], dim=1)
    assert torch.equal(views(wider, ids_of(texts), spec)[:, :MOST], views(texts, ids_of(texts), spec))


def test_another_process_has_the_same_views() -> None:
    told = (
        "import sys; sys.path[:0] = ['tests', 'tests/views']; import hashlib, test_word_operations as t; x = t.make_texts();"
        "v = t.views(x, t.ids_of(x), t.spec_of(*t.ROWS.values()));"
        "print(hashlib.sha256(v.numpy().tobytes()).hexdigest())"
    )
    texts = make_texts()
    own = views(texts, ids_of(texts), spec_of(*ROWS.values()))
    digest = hashlib.sha256(own.numpy().tobytes()).hexdigest()
    done = subprocess.run([sys.executable, "-c", told], cwd=TOP, env=environment(), capture_output=True, text=True)
    assert done.stdout.strip() == digest, done.stderr


@EACH
def test_the_plain_view_is_the_text(kind: str) -> None:
    texts, spec = make_texts(), spec_of(ROWS[kind], plain_first=True)
    assert torch.equal(views(texts, ids_of(texts), spec, 0), texts)
    assert not torch.equal(views(texts, ids_of(texts), spec, 1), texts)


@pytest.mark.parametrize("kind", ["drop_words", "mask_words"])
def test_the_share_of_words_is_the_one_that_is_set(kind: str) -> None:
    texts = torch.full((400, 500), FIRST_WORD, dtype=torch.int32)
    found = views(texts, ids_of(texts), spec_of(ROWS[kind]))
    assert (found != FIRST_WORD).float().mean().item() == pytest.approx(ROWS[kind]["share"], abs=0.005)


def test_all_words_dropped_leaves_the_first() -> None:
    texts = make_texts()
    found = views(texts, ids_of(texts), spec_of({"kind": "drop_words", "share": 1.0}))
    assert torch.equal(found[:, 0], texts[:, 0])
    assert not found[:, 1:].any()


def test_swapping_keeps_every_word() -> None:
    texts = make_texts()
    found = views(texts, ids_of(texts), spec_of({"kind": "swap_words", "share": 1.0}))
    assert torch.equal(found.sort(dim=1).values, texts.sort(dim=1).values)
    moved = (found != texts).sum(dim=1)
    assert (moved >= (texts != PAD).sum(dim=1) - 2 - 2).all()  # both ends may lack a neighbour, some words are equal


def test_a_window_is_somewhere_in_its_text() -> None:
    text = torch.arange(FIRST_WORD, FIRST_WORD + MOST, dtype=torch.int32).repeat(3000, 1)
    found = views(text, ids_of(text), spec_of(ROWS["window_words"]))
    starts = found[:, 0] - FIRST_WORD
    assert torch.equal(found[:, :7] - found[:, :1], torch.arange(7, dtype=torch.int32).repeat(3000, 1))
    counts = torch.bincount(starts, minlength=MOST - 6)
    assert len(counts) == MOST - 6
    assert counts.min() > 3000 / len(counts) * 0.6


def test_a_plan_has_the_views_of_a_split() -> None:
    content, rng = content_of("tokens"), np.random.default_rng(1)
    texts = rng.integers(FIRST_WORD, len(content.words), (9, 12)).astype(np.int32)
    split = SplitInMemory(torch.from_numpy(texts), torch.zeros(9, dtype=torch.int64), content.ids(texts), content)
    spec = spec_of(ROWS["mask_words"])
    assert torch.equal(plan_view(split, spec, 1).render(slice(None)), views(split.inputs, split.sample_ids, spec))


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"kind": "flip_horizontal", "probability": 0.5}, r"flip_horizontal, which is for images; .*drop_words"),
        ({"kind": "window_words", "words": MOST}, r"words: 24, and texts have at most 24 words"),
    ],
    ids=["of images", "no window"],
)
def test_an_operation_that_can_do_nothing_is_refused(row: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        spec_of(row).check((MOST,), "views", TOKENS)


def test_operations_of_words_are_those_tested_here() -> None:
    assert {kind for kind, one in OPERATIONS.items() if one.input_kind == "tokens"} == set(ROWS)
