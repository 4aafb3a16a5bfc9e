"""Labels at positions of a grid: as those of single positions, at the positions that they state,
and right on average.
"""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.labels.encodings import Codec, LabelSpace, build_encoding, build_row
from pipeline.labels.encodings.at_positions import AtPositions, of_one
from pipeline.labels.encodings.positions import Drawn, stretches
from pipeline.labels.fields import encode_logits, labels_of
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.targets import SparseTargets
from pipeline.signals.losses import log_normalise

PROPERTY = settings(max_examples=20, deadline=None, database=None)
Row = dict[str, Any]
FLOAT16: Row = {"kind": "dense_float16"}
UINT8: Row = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
TOPK: Row = {"kind": "topk", "k": 2, "levels": 64, "range_nats": 40.0, "tail": "prior", "tail_classes": 3}
REST: Row = TOPK | {"tail": "rest"}
ROWS = {"float16": FLOAT16, "uint8": UINT8, "topk": TOPK, "rest": REST}
EACH = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
SPACE = LabelSpace(5, 2.0, (1.0, 2.0), "grid", (6, 8))
IDS = np.arange(1, 8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def maps(seed: int = 0, space: LabelSpace = SPACE, count: int = len(IDS)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(count, *space.output_shape, generator=generator)


def codec_of(row: Row, space: LabelSpace = SPACE) -> Codec:
    encoding = build_encoding(row, "test")
    encoding.check(space, "test")
    pilot = space.signal.values(maps(9, space), space.temperature)
    return encoding.codec(space, encoding.learn(pilot, space))


def as_rows(values: torch.Tensor) -> torch.Tensor:
    """Returns values at positions as a row for each position, the first label's first."""
    return values.flatten(2).movedim(1, 2).flatten(0, 1)


@EACH
@pytest.mark.parametrize("positions", [{"stride": 1}, {"count": 48, "seed": 1}], ids=["cells", "drawn"])
def test_labels_of_all_positions_are_those_of_single_positions(row: Row, positions: Row) -> None:
    codec, values = codec_of(row | {"positions": positions}), SPACE.signal.values(maps(), 2.0)
    encoding = build_encoding(row | {"positions": positions}, "test")
    assert isinstance(encoding, AtPositions)
    alone, flat = of_one(SPACE), as_rows(values)
    own = encoding.rows.codec(alone, encoding.rows.learn(as_rows(SPACE.signal.values(maps(9), 2.0)), alone))
    labels, expected = codec.encode(values, IDS, 3), own.encode(flat, IDS, 3)
    for name, wanted in expected.items():
        assert torch.equal(as_rows(labels[name]), wanted)
    for temperature in (1.0, 2.0):
        assert torch.equal(as_rows(codec.decode(labels, temperature)), own.decode(expected, temperature))
        targets, rows = codec.targets(labels, temperature), own.targets(expected, temperature)
        assert isinstance(targets, PositionTargets)
        assert (targets.num_positions, targets.stride) == (48, 1)
        pairs = [(targets.rows, rows)]
        if isinstance(rows, SparseTargets):
            assert isinstance(targets.rows, SparseTargets)
            pairs = [(targets.rows.classes, rows.classes), (targets.rows.log_probs, rows.log_probs)]
        assert all(torch.equal(one, other) for one, other in pairs)


@PROPERTY
@given(stride=st.sampled_from([1, 2]), temperature=st.sampled_from([0.5, 1.0, 3.0]), seed=st.integers(0, 2**31))
def test_a_cell_has_the_softmax_of_its_mean_logits(stride: int, temperature: float, seed: int) -> None:
    space = LabelSpace(5, temperature, (1.0, temperature) if temperature != 1 else (1.0,), "grid", (6, 8))
    codec, outputs = codec_of(FLOAT16 | {"positions": {"stride": stride}}, space), maps(seed, space)
    labels, fidelity = labels_of(codec, outputs, IDS, 0)
    cells = outputs.double().unfold(2, stride, stride).unfold(3, stride, stride).mean(dim=(4, 5)).flatten(2)
    for t in space.temperatures:
        read = codec.decode(labels, t)
        torch.testing.assert_close(read.double(), torch.log_softmax(cells / t, dim=1), atol=0.05, rtol=2e-3)
        torch.testing.assert_close(read.exp().sum(dim=1), torch.ones(7, 48 // stride**2))
    assert fidelity.num_labels == 7  # two classes that are the same in float16 may change places
    assert fidelity.summary()["kl_nats"]["1"]["max"] < 1e-4


@PROPERTY
@given(sides=st.tuples(st.integers(1, 9), st.integers(1, 9)), count=st.integers(1, 81), seed=st.integers(0, 2**63 - 1))
def test_one_position_is_drawn_in_each_stretch(sides: tuple[int, int], count: int, seed: int) -> None:
    whole = sides[0] * sides[1]
    count = min(count, whole)
    starts, lengths = stretches(count, whole)
    assert starts.tolist() == [n * whole // count for n in range(count)]
    assert int(lengths.sum()) == whole
    assert int(lengths.max() - lengths.min()) <= 1
    drawn = Drawn(count=count, seed=seed)
    index = drawn.index(drawn.draw(IDS, 5)["draw"], sides)
    assert ((index >= starts) & (index < starts + lengths)).all()


def test_positions_are_another_matter_for_each_image_view_and_seed() -> None:
    drawn, sides = Drawn(count=9, seed=4), (30, 30)
    index = drawn.index(drawn.draw(IDS, 0)["draw"], sides)
    assert torch.equal(index, drawn.index(drawn.draw(IDS, 0)["draw"], sides))
    assert len({tuple(row) for row in index.tolist()}) == len(IDS)
    for other in (drawn.draw(IDS, 1)["draw"], Drawn(count=9, seed=5).draw(IDS, 0)["draw"]):
        assert not torch.equal(drawn.index(other, sides), index)
    assert torch.equal(drawn.index(drawn.draw(IDS[2:], 0)["draw"], sides), index[2:])


def test_the_mean_over_drawn_positions_is_right_on_average() -> None:
    space, count = LabelSpace(2, 1.0, (1.0,), "grid", (5, 7)), 8  # stretches of 4 and of 5 positions
    ids, outputs = np.arange(1, 301, dtype=np.uint64), maps(1, space, 1).expand(300, -1, -1, -1)
    values, means = torch.arange(35.0).sqrt().reshape(1, 1, 5, 7).expand(300, 2, 5, 7), []
    for seed in range(10):
        codec = codec_of(FLOAT16 | {"positions": {"count": count, "seed": seed}}, space)
        targets = codec.targets(encode_logits(codec, outputs, ids, 0), 1.0)
        assert isinstance(targets, PositionTargets)
        means += targets.means(targets.rows_of(values)[:, 0]).tolist()
    spread = np.std(means) / len(means) ** 0.5
    assert spread > 0
    assert np.mean(means) == pytest.approx(values[0, 0].mean().item(), abs=4 * spread)
    even = np.mean(means) - values[0, 0].mean().item()
    assert abs(even) < 0.003  # of equal weights it would be above 0.03


def test_drawn_labels_are_those_of_their_positions_alone() -> None:
    codec, outputs = codec_of(UINT8 | {"positions": {"count": 7, "seed": 2}}), maps()
    labels, fidelity = labels_of(codec, outputs, IDS, 1)
    targets = codec.targets(labels, 1.0)
    assert isinstance(targets, PositionTargets)
    assert targets.index is not None
    assert targets.shares is not None
    assert targets.shares.tolist() == pytest.approx((stretches(7, 48)[1] / 48).tolist())
    exact = log_normalise(outputs.flatten(2).gather(2, targets.index[:, None].expand(-1, 5, -1)))
    assert torch.equal(
        codec.kept(outputs, labels), outputs.flatten(2).gather(2, targets.index[:, None].expand(-1, 5, -1))
    )
    kl = (exact.exp() * (exact - codec.decode(labels, 1.0))).sum(dim=1).mean(dim=1)
    assert fidelity.summary()["kl_nats"]["1"]["mean"] == pytest.approx(kl.mean().item(), rel=1e-2)
    again = codec.encode(codec.decode(labels, 2.0), IDS + np.uint64(1), 1, {"draw": labels["draw"]})
    assert torch.equal(again["draw"], labels["draw"])  # of a mean of labels, whatever the images are known by
    assert (again["log_prob_codes"].int() - labels["log_prob_codes"].int()).abs().max() <= 1


def test_a_prior_is_learned_from_positions_evenly_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.labels.encodings.at_positions._MOST_LEARNED", 40)
    seen: list[torch.Tensor] = []
    encoding = build_encoding(TOPK | {"positions": {"stride": 2}}, "test")
    assert isinstance(encoding, AtPositions)
    monkeypatch.setattr(type(encoding.rows), "learn", lambda self, rows, space: seen.append(rows) or {})
    values = SPACE.signal.values(maps(), 2.0)
    encoding.learn(values, SPACE)
    cells = as_rows(log_normalise(torch.nn.functional.avg_pool2d(values, 2)))
    wanted = [int(n) for n in np.linspace(0, len(cells) - 1, 40)]
    torch.testing.assert_close(seen[0], cells[wanted])
    assert build_encoding(UINT8 | {"positions": {"stride": 2}}, "test").learn(values, SPACE) == {}


@pytest.mark.parametrize("positions", [{"stride": 2}, {"count": 7, "seed": 0}])
def test_a_row_is_the_same_in_a_manifest_and_bounds_its_fields(positions: Row) -> None:
    encoding = build_encoding(TOPK | {"positions": positions}, "test")
    assert encoding.to_dict() == TOPK | {"positions": positions}
    fields = encoding.fields(SPACE)
    of_rows = build_encoding(TOPK, "test").fields(of_one(SPACE))
    count = 12 if "stride" in positions else 7
    for name, field in of_rows.items():
        assert (fields[name].shape, fields[name].most) == ((*field.shape, count), field.most)
    assert {*fields} - {*of_rows} == (set() if "stride" in positions else {"draw"})
    assert encoding.num_values(SPACE) == 5 * count
    assert encoding.stride == positions.get("stride")


REFUSED = {
    "a grid without positions": (UINT8, "uint8', which holds labels of the signal categorical; .*add `positions: {stride: 4}`$"),
    "positions without a grid": (UINT8 | {"positions": {"stride": 1}}, "of the signal grid; .*leave `positions` out"),
    "a stride that leaves some over": (UINT8 | {"positions": {"stride": 4}}, r"r\.positions\.stride: 4, of a grid of 6 x 8"),
    "a stride of 0": (UINT8 | {"positions": {"stride": 0}}, r"r\.positions\.stride: 0 \(int\)"),
    "more than there are": (UINT8 | {"positions": {"count": 49, "seed": 0}}, r"r\.positions\.count: 49, .*at most 48; "),
    "no seed": (UINT8 | {"positions": {"count": 4}}, r"r\.positions\.seed: this key is missing"),
    "a word": (UINT8 | {"positions": "all"}, r"r\.positions: 'all'; expected \{stride: S\} or \{count: N, seed: S\}"),
    "both": (UINT8 | {"positions": {"stride": 2, "count": 4}}, r"r\.positions\.count: unknown key"),
    "too many classes": (TOPK | {"k": 5, "positions": {"stride": 1}}, r"r\.k: 5; expected at most 4"),
    "draws of classes": ({"kind": "sampled", "draws": 2, "seed": 0, "positions": {"stride": 1}}, "'sampled' holds no labels at"),
    "no labels": ({"kind": "none", "positions": {"stride": 1}}, "'none' holds no labels at positions"),
    "odds": ({"kind": "log_odds_uint8", "range_nats": 9.0, "steps": 9, "positions": {"stride": 1}}, "holds no labels at"),
    "a budget": ({"kind": "auto", "bytes": 3, "positions": {"stride": 1}}, "'auto' chooses among labels of whole samples"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_line(name: str) -> None:
    row, said = REFUSED[name]
    space = LabelSpace(5, 1.0, (1.0,)) if name == "positions without a grid" else SPACE
    with pytest.raises(ConfigError) as caught:
        build_row(row, "r").check(space, "r")  # type: ignore[union-attr]
    assert re.search(said, str(caught.value))
    assert len(str(caught.value)) <= 500


def test_a_store_of_views_alone_serves_a_grid_too() -> None:
    build_encoding({"kind": "none"}, "r").check(SPACE, "r")
