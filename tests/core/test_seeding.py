"""Random numbers are the published Philox bits, the same everywhere, and depend on nothing but seed
and counter.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.sample_draws import sample_draws
from pipeline.core.seeding import derive_seed, integers_below, permutation, philox

SEEDS = st.integers(0, 2**64 - 1)
IDS = st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=20, unique=True)


@pytest.mark.parametrize(
    ("counter", "key", "known"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF, 0xFFFFFFFF), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_known_answers_of_philox4x32_10_come_out(
    counter: tuple[int, ...], key: tuple[int, int], known: tuple[int, ...]
) -> None:
    seed = key[1] << 32 | key[0]
    in_numpy = philox(seed, tuple(np.array([word], dtype=np.int64) for word in counter))  # type: ignore[arg-type]
    in_torch = philox(seed, tuple(torch.tensor([word]) for word in counter))  # type: ignore[arg-type]
    assert tuple(int(word[0]) for word in in_numpy) == known
    assert tuple(int(word[0]) for word in in_torch) == known


@settings(deadline=None, max_examples=50, database=None)
@given(SEEDS, st.lists(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 4), min_size=1, max_size=8))
def test_numpy_and_torch_give_the_same_words_of_32_bits(seed: int, counters: list[tuple[int, int, int, int]]) -> None:
    words = np.array(counters, dtype=np.int64).T.copy()
    in_numpy = np.stack(philox(seed, (words[0], words[1], words[2], words[3])))
    tensor = torch.from_numpy(words)
    in_torch = torch.stack(philox(seed, (tensor[0], tensor[1], tensor[2], tensor[3])))
    assert (in_numpy == in_torch.numpy()).all()
    assert in_numpy.min() >= 0
    assert in_numpy.max() < 2**32


@settings(deadline=None, max_examples=50, database=None)
@given(SEEDS, IDS, st.integers(0, 1000), st.data())
def test_a_samples_draw_does_not_depend_on_the_samples_around_it(
    seed: int, ids: list[int], view: int, data: st.DataObject
) -> None:
    together = sample_draws(seed, np.array(ids, dtype=np.uint64), view, 0)
    chosen = data.draw(st.permutations(range(len(ids))))[: data.draw(st.integers(1, len(ids)))]
    apart = sample_draws(seed, np.array([ids[i] for i in chosen], dtype=np.uint64), view, 0)
    assert torch.equal(apart, together[:, chosen])


def test_a_draw_changes_with_seed_view_slot_and_either_half_of_the_sample_id() -> None:
    def draw(seed: int = 1, sample: int = 7, view: int = 2, slot: int = 0) -> tuple[int, ...]:
        return tuple(sample_draws(seed, np.array([sample], dtype=np.uint64), view, slot)[:, 0].tolist())

    draws = [draw(), draw(seed=2), draw(seed=1 + 2**32), draw(sample=8), draw(sample=7 + 2**63), draw(view=3)]
    draws.append(draw(slot=1))
    assert len(set(draws)) == len(draws)


@settings(deadline=None, max_examples=50, database=None)
@given(SEEDS, st.integers(1, 2**31))
def test_integers_stay_below_their_bound_and_reach_both_ends(seed: int, bound: int) -> None:
    words = np.array([0, 2**32 - 1, seed & 0xFFFFFFFF], dtype=np.int64)
    numbers = integers_below(words, bound)
    assert numbers[0] == 0
    assert numbers[1] == bound - 1
    assert 0 <= numbers[2] < bound
    assert torch.equal(integers_below(torch.from_numpy(words), bound), torch.from_numpy(numbers))


@pytest.mark.parametrize("bound", [2, 3, 5, 10])
@pytest.mark.parametrize("word", range(4))
def test_integers_are_uniform_in_every_word(bound: int, word: int) -> None:
    count = 20_000
    ids = np.arange(1, count + 1, dtype=np.uint64)
    numbers = integers_below(sample_draws(3, ids, view=1, slot=0)[word], bound)
    found = np.bincount(numbers.numpy(), minlength=bound)
    spread = np.sqrt(count / bound * (1 - 1 / bound))
    assert np.abs(found - count / bound).max() < 5 * spread


def test_the_words_of_a_draw_are_independent_of_each_other() -> None:
    words = sample_draws(3, np.arange(1, 20_001, dtype=np.uint64), view=1, slot=0).double().numpy()
    correlation = np.corrcoef(words) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


@settings(deadline=None, max_examples=50, database=None)
@given(SEEDS, st.integers(0, 300), st.integers(0, 1000))
def test_a_permutation_holds_every_number_once(seed: int, count: int, turn: int) -> None:
    assert sorted(permutation(seed, count, turn).tolist()) == list(range(count))


def test_every_epoch_and_every_seed_has_an_order_of_its_own_that_comes_back() -> None:
    orders = [tuple(permutation(seed, 50, turn).tolist()) for seed in (0, 1) for turn in range(10)]
    assert len(set(orders)) == 20
    assert tuple(permutation(1, 50, 9).tolist()) == orders[-1]
    assert tuple(range(50)) not in orders


def test_every_number_comes_first_in_some_epoch() -> None:
    assert {int(permutation(0, 5, turn)[0]) for turn in range(100)} == set(range(5))


def test_a_derived_seed_differs_by_seed_and_purpose_and_fits_64_bits() -> None:
    purposes = ["order", "views", "validation", "", "a"]
    seeds = {derive_seed(seed, purpose) for seed in (0, 1, 2**63) for purpose in purposes}
    assert len(seeds) == 3 * len(purposes)
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert derive_seed(0, "order") == derive_seed(0, "order")
