"""The largest classes of a label: the same on a GPU, which compares whole numbers, as elsewhere."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels.encodings.tail import most_likely, unequal


@given(
    st.lists(
        st.lists(st.sampled_from([-80.0, -3.5, -1e-7, -0.0, 0.0, 1e-30, 2.0]), min_size=9, max_size=9), min_size=1
    ),
    st.integers(1, 8),
    st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_whole_numbers_are_in_the_order_of_values_and_of_classes(rows: list, k: int, dtype: torch.dtype) -> None:
    values = torch.tensor(rows, dtype=dtype)
    numbers = unequal(values)
    assert all(len(set(row)) == len(row) for row in numbers.tolist())
    assert torch.equal(numbers.topk(k, dim=1).indices, most_likely(values, k))
    assert torch.equal(most_likely(values, k), values.argsort(dim=1, descending=True, stable=True)[:, :k])
