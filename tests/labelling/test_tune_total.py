"""A total size: the pairs of views and encoding that fit it."""

from dataclasses import replace
from typing import Any

import pytest
from stores import ANCHORED

from pipeline.core.errors import ConfigError, StoreError
from pipeline.labelling.ladder import Rung
from pipeline.labelling.tune_total import pairs_within, parse_size
from pipeline.labels.encodings import build_encoding
from pipeline.labels.encodings.dense_float16 import DenseFloat16


def rung(label_bytes: float, kl: float, table_bytes: int = 0) -> Rung:
    fidelity: dict[str, Any] = {"kl_nats": {"1": {"mean": kl, "p999": 10 * kl}}}
    return Rung(DenseFloat16(), (1.0,), 1, label_bytes, table_bytes, fidelity)


RUNGS = {"whole": rung(20, 0.0), "some": rung(6, 0.01), "few": rung(2, 0.1), "tabled": rung(2, 0.05, 6000)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("300MB", 3e8), ("2GB", 2e9), ("1.5GiB", 1.5 * 2**30), ("500 kB", 5e5), ("3tb", 3e12), ("10B", 10.0)],
)
def test_sizes_are_read_as_people_write_them(text: str, expected: float) -> None:
    assert parse_size(text, "--total") == expected


@pytest.mark.parametrize("text", ["300", "MB", "-3MB", "0MB", "3 XB", "1e3MB", "", "3MB or so"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--total: .*expected a size such as 300MB"):
        parse_size(text, "--total")


@pytest.mark.parametrize(
    ("each", "most", "expected"),
    [
        (28, 8, {1: "whole", 2: "some", 4: "tabled", 8: "few"}),  # bytes a sample, of which ids take 8
        (28, 3, {1: "whole", 2: "some"}),
        (48, 4, {1: "whole", 2: "whole", 4: "some"}),
        (10.5, 8, {1: "few"}),
        (14, 1, {1: "some"}),
    ],
)
def test_each_number_of_views_gets_the_best_encoding_of_what_it_leaves(
    each: float, most: int, expected: dict[int, str]
) -> None:
    pairs = pairs_within(each * 1000, RUNGS, 1000, most)
    assert {pair.num_views: pair.name for pair in pairs} == expected
    for pair in pairs:
        assert pair.total_bytes <= each * 1000
        assert pair.rung.num_labels == 1000 * pair.num_views, "tables are shared by more labels"


def test_an_anchor_is_shared_by_as_many_views_as_there_are_and_made_of_no_more() -> None:
    anchored = replace(rung(1, 0.0), encoding=build_encoding(ANCHORED, "here"), anchor_bytes=16)
    pairs = pairs_within(28_000, {"few": rung(2, 0.1), "anchored": anchored}, 1000, 8)
    assert {pair.num_views: pair.name for pair in pairs} == {1: "few", 2: "anchored", 4: "anchored", 8: "few"}
    assert [pair.rung.label_bytes for pair in pairs[1:3]] == [1 + 16 / 2, 1 + 16 / 4]


@pytest.mark.parametrize(("each", "told"), [(9, "fits 1 bytes per label; the nearest is few"), (8, "a sample's id")])
def test_a_total_that_nothing_fits_is_refused(each: float, told: str) -> None:
    with pytest.raises(StoreError, match=told):
        pairs_within(each * 1000, RUNGS, 1000, 4)
