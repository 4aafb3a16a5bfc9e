"""The keys of samples are cut as short as they still tell them apart, and never shorter."""

import numpy as np
import pytest
from stores import ALIKE

from pipeline.core.errors import StoreError
from pipeline.data.sample_ids import row_draws
from pipeline.labels.samples import StoredSamples

SAME = np.array([0x4BFDABCD1234, 0x33BA3ABCD1234], np.uint64)  # whole keys that are the same, found by trying 2^18 ids
OTHERS = np.arange(1, 9, dtype=np.uint64)


def test_the_pairs_are_what_they_are_said_to_be() -> None:
    for pair, num_bytes, alike in ((ALIKE, 6, True), (ALIKE, 7, False), (SAME, 8, True)):
        first, second = StoredSamples.of(pair).cut(num_bytes).keys
        assert (first == second) is np.bool_(alike)
    assert len(np.unique(row_draws(ALIKE))) == 1


@pytest.mark.parametrize(("ids", "num_bytes"), [(OTHERS, 6), (ALIKE, 7), (ALIKE[:1].repeat(2), 6)])
def test_keys_that_would_be_alike_take_one_byte_more(ids: np.ndarray, num_bytes: int) -> None:
    kept = StoredSamples.of(np.concatenate([OTHERS, ids])).shortest()
    assert kept.num_bytes == num_bytes
    assert len(np.unique(kept.keys)) == len(np.unique(np.concatenate([OTHERS, ids])))
    again = StoredSamples.from_bytes(kept.to_bytes())
    assert (again.num_bytes, again.keys.tolist()) == (num_bytes, kept.keys.tolist())
    assert again.find(StoredSamples.of(ids)).min() >= 0


def test_samples_that_no_key_tells_apart_are_refused() -> None:
    with pytest.raises(StoreError, match="two different samples have the same; leave one of them out"):
        StoredSamples.of(SAME).shortest()
