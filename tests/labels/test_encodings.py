"""Encodings: stated error bounds, twins written in numpy from docs/store-format.md, and settings
that are checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import kl_div

from pipeline.core.errors import ConfigError, StoreError
from pipeline.labels.encodings import ENCODINGS, Codec, Encoding, LabelSpace, build_encoding
from pipeline.labels.encodings.base import LogScale, smallest_unsigned
from pipeline.labels.encodings.dense_float16 import LOWEST
from pipeline.labels.targets import SparseTargets
from pipeline.student.losses.kd import knowledge_distillation

PROPERTY = settings(max_examples=30, deadline=None, database=None)
SEEDS = st.integers(0, 2**32 - 1)

Row = dict[str, Any]
FLOAT16: Row = {"kind": "dense_float16"}
UINT8: Row = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
FEW_LEVELS: Row = {"kind": "dense_uint8", "range_nats": 12.5, "levels": 30}
DENSE = {"float16": FLOAT16, "uint8": UINT8, "few_levels": FEW_LEVELS}
PRIOR: Row = {"kind": "topk", "k": 1, "levels": 255, "range_nats": 40.0, "tail": "prior", "tail_classes": 4}
UNIFORM: Row = PRIOR | {"tail": "uniform"}
REST: Row = PRIOR | {"tail": "rest"}
TOPK = {
    "prior": PRIOR,
    "prior_of_k": PRIOR | {"k": 4, "levels": 1000},
    "uniform": UNIFORM | {"k": 3},
    "rest": REST | {"k": 2},
}
SAMPLED: Row = {"kind": "sampled", "draws": 12, "seed": 3}
LABELLED = DENSE | TOPK | {"sampled": SAMPLED, "many_draws": SAMPLED | {"draws": 254}}
TEMPERATURES = (1.0, 2.0, 4.0)


@st.composite
def any_logits(draw: st.DrawFn) -> torch.Tensor:
    """Teachers of all sorts, 2 to 300 classes: ordinary, unsure, sure, absurdly sure, in whole
    numbers (with ties), and all classes alike.
    """
    classes = draw(st.sampled_from([2, 3, 5, 10, 70, 300]))
    rng = np.random.default_rng(draw(SEEDS))
    logits = rng.normal(0, draw(st.sampled_from([0.0, 1e-3, 1.0, 5.0, 50.0, 1e4])), (6, classes))
    logits[:, rng.integers(classes)] += draw(st.sampled_from([0.0, 5.0, 20.0, 1e3, 1e5]))
    return torch.from_numpy(np.round(logits) if draw(st.booleans()) else logits).float()


def space_of(classes: int, temperature: float = 1.0, temperatures: tuple[float, ...] = TEMPERATURES) -> LabelSpace:
    return LabelSpace(classes, temperature, temperatures)


def ids_of(count: int) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def fitting(row: Row, classes: int) -> Encoding:
    """Returns a row's encoding, with no more kept classes than there can be."""
    return build_encoding(row | ({"k": min(row["k"], classes - 1)} if "k" in row else {}), "test")


def codec_of(row: Row, pilot: torch.Tensor, **space: Any) -> Codec:
    encoding = fitting(row, pilot.shape[1])
    where = space_of(pilot.shape[1], **space)
    encoding.check(where, "test")
    return encoding.codec(where, encoding.learn(pilot, where))


def encode(codec: Codec, log_probs: torch.Tensor, view: int = 0) -> dict[str, torch.Tensor]:
    return codec.encode(log_probs, ids_of(len(log_probs)), view)


def softened(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return torch.log_softmax(logits.double() / temperature, dim=1)


def logsumexp(values: np.ndarray) -> np.ndarray:
    top = values.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(values - top).sum(axis=1)))


def divergence(log_teacher: torch.Tensor, decoded: torch.Tensor) -> float:
    """Returns the mean KL(teacher || decoded) in nats."""
    return float(kl_div(decoded.double(), log_teacher.double(), log_target=True, reduction="none").sum(dim=1).mean())


def similar_classes(
    seed: int, count: int, classes: int, *, noise: float = 0.7, only: int | None = None
) -> torch.Tensor:
    """Log-probabilities of a teacher for whom each class has classes of its own that it is mistaken
    for.
    """
    likeness = np.random.default_rng(1000 + classes).normal(0, 2, (classes, classes))
    rng = np.random.default_rng(seed)
    true = rng.integers(classes, size=count) if only is None else np.full(count, only)
    logits = likeness[true] + 6 * np.eye(classes)[true] + rng.normal(0, noise, (count, classes))
    return torch.log_softmax(torch.from_numpy(logits), dim=1).float()


# The scale that log-probabilities are written on.


@PROPERTY
@given(
    levels=st.integers(2, 255) | st.sampled_from([256, 257, 1000, 65534, 65535]) | st.integers(256, 65535),
    range_nats=st.floats(1e-2, 1000),
    seed=SEEDS,
)
def test_codes_keep_the_stated_error_bound_and_are_never_the_fill_value(
    levels: int, range_nats: float, seed: int
) -> None:
    scale = LogScale(levels, range_nats)
    spread = np.exp(np.random.default_rng(seed).uniform(-12, 2, 500)) * range_nats
    exact = torch.from_numpy(-np.concatenate([[0, -1e-7, range_nats, 1e30], spread])).float()
    codes = scale.encode(exact)
    assert codes.numpy().dtype == scale.dtype == (np.uint8 if levels <= 255 else np.uint16)
    q = codes.long().numpy()
    assert q.min() == 0
    assert q.max() == levels - 1 < scale.fill_value
    clipped = np.clip(exact.double().numpy(), -range_nats, 0)
    steps = levels - 1
    bound = range_nats * (q / steps**2 + 1 / (4 * steps**2))
    stored = scale.decode(codes)
    assert stored.dtype == torch.float32
    np.testing.assert_allclose(stored.double().numpy(), -range_nats * (q / steps) ** 2, rtol=1e-6)
    rounding = 1e-6 * np.abs(clipped)  # of float32
    assert (np.abs(stored.double().numpy() - clipped) <= bound + rounding).all()


@pytest.mark.parametrize("levels", [2, 3, 64, 254, 255, 256, 65535])
def test_a_value_of_the_scale_is_stored_without_error(levels: int) -> None:
    scale = LogScale(levels, 40.0)
    codes = torch.from_numpy(np.arange(levels).astype(scale.dtype))
    assert torch.equal(scale.encode(scale.decode(codes)).long(), codes.long())


@pytest.mark.parametrize(
    ("count", "dtype"),
    [
        (1, "u1"),
        (255, "u1"),
        (256, "u2"),
        (65535, "u2"),
        (65536, "u4"),
        (2**32 - 1, "u4"),
        (2**32, "u8"),
        (2**63, "u8"),
    ],
)
def test_the_smallest_integers_have_room_for_the_fill_value(count: int, dtype: str) -> None:
    assert smallest_unsigned(count) == np.dtype(dtype)
    assert count - 1 < np.iinfo(smallest_unsigned(count)).max


# What holds for every encoding.


@pytest.mark.parametrize("name", LABELLED)
@PROPERTY
@given(logits=any_logits())
def test_no_label_looks_like_one_that_was_never_written(name: str, logits: torch.Tensor) -> None:
    classes = logits.shape[1]
    encoding, space = fitting(LABELLED[name], classes), space_of(classes)
    log_probs = torch.log_softmax(logits, dim=1)
    tables = encoding.learn(log_probs, space)
    assert tables.keys() == encoding.tables(space).keys()
    for key, table in encoding.tables(space).items():
        assert tables[key].dtype == table.dtype
        assert tables[key].shape == table.shape
        assert not table.is_unwritten(tables[key])
    encoded = encode(encoding.codec(space, tables), log_probs)
    assert encoded.keys() == encoding.fields(space).keys()
    for key, field in encoding.fields(space).items():
        values = encoded[key].numpy()
        assert encoded[key].dtype == field.torch_dtype
        assert values.dtype == field.dtype
        assert values.shape == (len(logits), *field.shape)
        assert not field.is_unwritten(values)
        hole = values.copy()
        hole[2, -1] = field.fill_value
        assert field.is_unwritten(hole)


@pytest.mark.parametrize("name", LABELLED)
@PROPERTY
@given(logits=any_logits(), stored=st.sampled_from([1.0, 2.0, 3.0]))
def test_decoded_labels_are_finite_and_normalised(name: str, logits: torch.Tensor, stored: float) -> None:
    log_probs = torch.log_softmax(logits / stored, dim=1)
    codec = codec_of(LABELLED[name], log_probs, temperature=stored)
    fields = encode(codec, log_probs)
    for temperature in filter(codec.serves, {stored, *TEMPERATURES}):
        decoded = codec.decode(fields, temperature)
        assert decoded.dtype == torch.float32
        assert decoded.shape == logits.shape
        assert torch.isfinite(decoded).all()
        torch.testing.assert_close(
            decoded.double().exp().sum(dim=1), torch.ones(len(logits)).double(), rtol=0, atol=2e-5
        )
        targets = codec.targets(fields, temperature)
        if isinstance(targets, SparseTargets):
            whole = targets.log_probs.exp().sum(dim=1) + (0 if targets.log_rest is None else targets.log_rest.exp())
            torch.testing.assert_close(whole, torch.ones(len(logits)), rtol=0, atol=2e-5)
        else:
            assert torch.equal(targets, decoded)


@pytest.mark.parametrize("name", LABELLED)
@PROPERTY
@given(logits=any_logits(), data=st.data())
def test_a_label_does_not_depend_on_the_labels_around_it(name: str, logits: torch.Tensor, data: st.DataObject) -> None:
    log_probs, ids = torch.log_softmax(logits, dim=1), ids_of(len(logits))
    codec = codec_of(LABELLED[name], log_probs)
    chosen = data.draw(st.permutations(range(len(ids))))[: data.draw(st.integers(1, len(ids)))]
    whole, part = codec.encode(log_probs, ids, 2), codec.encode(log_probs[chosen], ids[chosen], 2)
    for key, values in whole.items():
        assert np.array_equal(values.numpy()[chosen], part[key].numpy())
    for temperature in filter(codec.serves, TEMPERATURES):  # here the last bit may differ
        torch.testing.assert_close(
            codec.decode(part, temperature), codec.decode(whole, temperature)[chosen], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("name", ["float16", "uint8", *TOPK])
@PROPERTY
@given(logits=any_logits(), stored=st.sampled_from([1.0, 2.0]))
def test_the_most_likely_class_is_the_teachers(name: str, logits: torch.Tensor, stored: float) -> None:
    log_probs = torch.log_softmax(logits / stored, dim=1)
    top = log_probs.sort(dim=1, descending=True).values[:, :2].double()
    codec = codec_of(LABELLED[name], log_probs, temperature=stored)
    fields = encode(codec, log_probs)
    for temperature in TEMPERATURES:
        decoded = codec.decode(fields, temperature)
        same = decoded.argmax(dim=1) == log_probs.argmax(dim=1)
        if name in DENSE:  # within the error of two classes
            assert (same | (top[:, 0] - top[:, 1] < 0.02 * (1 - top[:, 1])))[top[:, 1] > -39].all()
        else:
            assert same.all()


# Dense encodings.


def scores_and_bounds(row: Row, log_probs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Returns what is stored before renormalising, what it should be (clipped to the range), and
    the docstring's bound.
    """
    fields = encode(codec_of(row, log_probs), log_probs)
    exact = log_probs.double()
    if row["kind"] == "dense_float16":
        return fields["log_probs"].double(), exact.clamp(min=LOWEST), 2**-11 * exact.abs().clamp(max=-LOWEST) + 2**-25
    codes, span, steps = fields["log_prob_codes"].double(), row["range_nats"], row["levels"] - 1
    bound = span * (codes / steps**2 + 1 / (4 * steps**2))
    return -span * (codes / steps) ** 2, exact.clamp(min=-span), bound * 1.001  # the code is computed in float32


@pytest.mark.parametrize("name", DENSE)
@PROPERTY
@given(logits=any_logits())
def test_stored_values_keep_the_stated_error_bound(name: str, logits: torch.Tensor) -> None:
    stored, exact, bound = scores_and_bounds(DENSE[name], torch.log_softmax(logits, dim=1))
    assert ((stored - exact).abs() <= bound).all()


@pytest.mark.parametrize("name", DENSE)
@PROPERTY
@given(logits=any_logits(), stored=st.sampled_from([1.0, 2.0]), temperature=st.sampled_from([0.5, 1.0, 4.0, 9]))
def test_dense_labels_are_the_teachers_within_the_bound_at_any_temperature(
    name: str, logits: torch.Tensor, stored: float, temperature: float
) -> None:
    log_probs = torch.log_softmax(logits / stored, dim=1)
    codec = codec_of(DENSE[name], log_probs, temperature=stored)
    decoded = codec.decode(encode(codec, log_probs), temperature)
    _, clipped, bound = scores_and_bounds(DENSE[name], log_probs)
    ratio = stored / temperature
    expected, bound = torch.log_softmax(clipped * ratio, dim=1), bound * ratio
    # A class is off by its own error and by that of the normaliser, which the likely classes
    # decide.
    allowed = bound + torch.logsumexp(expected + bound, dim=1, keepdim=True) + 1e-4 + 1e-6 * expected.abs()
    assert ((decoded.double() - expected).abs() <= allowed).all()
    # Nothing is clipped but what is out of range: there the labels are those of the logits
    # themselves.
    if (clipped == log_probs.double()).all():
        exact = softened(logits, temperature)
        assert ((decoded.double() - exact).abs() <= allowed + 1e-5 * logits.abs().max()).all()


def test_a_sure_teachers_second_thoughts_survive() -> None:
    # As float16 probabilities the last two would both be 0.
    log_probs = torch.log_softmax(torch.tensor([[25.0, 5.0, 0.0]]), dim=1)
    exact = torch.log_softmax(torch.tensor([[2.5, 0.5, 0.0]]), dim=1)
    for row in (FLOAT16, UINT8, PRIOR | {"k": 2, "levels": 65535}, UNIFORM | {"k": 2, "levels": 65535}):
        codec = codec_of(row, log_probs, temperatures=(1.0, 10.0))
        torch.testing.assert_close(codec.decode(encode(codec, log_probs), 10), exact, rtol=0, atol=0.02)


# The k most likely classes.


@dataclass
class Read:
    """A reader's view, in float64, of top-k labels at one temperature, by docs/store-format.md."""

    classes: np.ndarray  # [labels, k]
    scores: np.ndarray  # [labels, k]: of classes 1 to k - 1 and of the tail, at the stored temperature
    log_kept: np.ndarray  # [labels, k], not normalised
    log_tail: np.ndarray  # [labels], not normalised
    decoded: np.ndarray  # [labels, classes]
    allowed: np.ndarray  # [labels]: what float32 may lose in log p of the first class, and so in all


def read_by_hand(
    row: Row,
    space: LabelSpace,
    tables: Mapping[str, np.ndarray],
    fields: Mapping[str, torch.Tensor],
    temperature: float,
) -> Read:
    count, k = fields["classes"].shape
    size = min(row["tail_classes"], space.num_classes - 1) if row["tail"] == "prior" else 0
    numbers = fields["classes"].numpy().astype(np.int64)
    classes = numbers.copy()
    for label, column in np.ndindex(count, k):
        if column and size:
            number = numbers[label, column]
            in_list = number < size
            classes[label, column] = tables["prior_classes"][numbers[label, 0], number] if in_list else number - size

    codes = fields["log_prob_codes"].numpy().astype(np.float64)
    scores = -row["range_nats"] * (codes / (row["levels"] - 1)) ** 2
    left = 1 - np.exp(scores).sum(axis=1)
    first = np.log(np.maximum(left, 1e-9))
    if k > 1:
        first = np.maximum(first, scores[:, 0] + 1e-4)
    log_kept, log_tail = np.column_stack([first, scores[:, :-1]]), scores[:, -1]

    served = [space.temperature, *(t for t in space.temperatures if t != space.temperature)]
    number, top = served.index(temperature), classes[:, 0]
    if number:
        a = space.temperature / temperature
        offset = (1 - a) * np.log(space.num_classes - k) if not size else tables["tail_offsets"][number][top]
        log_tail = a * log_tail + offset + 0.25 * fields["tail_steps"].numpy()[:, number - 1].astype(np.float64)
        log_kept = a * log_kept
    whole = logsumexp(np.column_stack([log_kept, log_tail]))[:, None]

    shares = np.zeros((count, space.num_classes))
    if size:
        prior = -40 * (tables["prior_codes"][number].astype(np.float64) / 254) ** 2
        rest = -40 * (tables["prior_rest_codes"][number].astype(np.float64) / 254) ** 2
        shares[:] = rest[top][:, None] - np.log(max(1, space.num_classes - 1 - size))
        np.put_along_axis(shares, tables["prior_classes"][top].astype(np.int64), prior[top], axis=1)
    np.put_along_axis(shares, classes, -np.inf, axis=1)
    tail = log_tail[:, None] - whole + shares - logsumexp(shares)[:, None]
    decoded = np.minimum(tail, log_kept[:, -1:] - whole - 1e-4)
    np.put_along_axis(decoded, classes, log_kept - whole, axis=1)
    # 1 minus the others is good to some 1e-7, and counts where it is above the second class.
    counts = (left > np.exp(scores[:, 0])) if k > 1 else np.full(count, True)
    allowed = 2e-5 + np.where(counts, 5e-7 / np.maximum(left, 1e-9), 0)
    return Read(classes, scores, log_kept, log_tail, decoded - logsumexp(decoded)[:, None], allowed)


@st.composite
def topk_cases(draw: st.DrawFn) -> tuple[Row, torch.Tensor, float]:
    """Draws a row, a teacher's logits, and the stored temperature; some kept classes have no place
    in a table of few classes.
    """
    logits = draw(any_logits())
    classes = logits.shape[1]
    row = {
        "kind": "topk",
        "k": draw(st.integers(1, min(classes - 1, 6)) | st.just(min(classes - 1, 40))),
        "levels": draw(st.sampled_from([2, 16, 64, 255, 256, 4096, 65535])),
        "range_nats": draw(st.sampled_from([5.0, 40.0, 1000.0])),
        "tail": draw(st.sampled_from(["prior", "uniform", "rest"])),
        "tail_classes": draw(st.sampled_from([1, 2, 8, 256])),
    }
    return row, logits, draw(st.sampled_from([1.0, 2.0, 3.0]))


def in_order(log_probs: torch.Tensor, k: int) -> np.ndarray:
    """Returns the k most likely classes, by number among equals."""
    return np.argsort(-log_probs.numpy(), axis=1, kind="stable")[:, :k]


@settings(PROPERTY, max_examples=120)
@given(case=topk_cases())
def test_kept_classes_are_in_order_and_stored_within_the_bound(case: tuple[Row, torch.Tensor, float]) -> None:
    row, logits, stored = case
    space = space_of(logits.shape[1], temperature=stored)
    log_probs = torch.log_softmax(logits / space.temperature, dim=1)
    encoding = build_encoding(row, "test")
    tables = encoding.learn(log_probs, space)
    codec = encoding.codec(space, tables)
    fields = encode(codec, log_probs)
    read = read_by_hand(row, space, tables, fields, space.temperature)
    assert np.array_equal(read.classes, in_order(log_probs, row["k"]))

    exact = log_probs.double().numpy()
    others = exact.copy()
    np.put_along_axis(others, read.classes, -np.inf, axis=1)
    kept = np.take_along_axis(exact, read.classes, axis=1)
    wanted = np.clip(np.column_stack([kept[:, 1:], logsumexp(others)]), -row["range_nats"], 0)
    steps = row["levels"] - 1
    codes = fields["log_prob_codes"].numpy().astype(np.float64)
    bound = row["range_nats"] * (codes / steps**2 + 1 / (4 * steps**2))
    assert (np.abs(read.scores - wanted) <= bound + 1e-6 * (1 + np.abs(wanted))).all()

    # At other temperatures the tail's own sum is kept within half a step, unless the step itself
    # clips ...
    for number, temperature in enumerate(space.others):
        share = space.temperature / temperature
        tail_steps = fields["tail_steps"].numpy()[:, number].astype(int)
        inside = np.abs(tail_steps) < 127
        at = read_by_hand(row, space, tables, fields, temperature)
        exact_tail = logsumexp(share * others)
        allowed = 0.125 + 1e-4 + 1e-6 * np.abs(exact_tail)
        assert (np.abs(at.log_tail - exact_tail) <= allowed)[inside].all()
        # ... and so are its log-odds, except what the scale does to the kept classes.
        odds, exact_odds = at.log_tail - logsumexp(at.log_kept), exact_tail - logsumexp(share * kept)
        off = np.abs(at.log_kept - share * kept).max(axis=1)
        assert (np.abs(odds - exact_odds) <= allowed + off)[inside].all()


@settings(PROPERTY, max_examples=120)
@given(case=topk_cases())
def test_labels_are_read_as_the_format_says(case: tuple[Row, torch.Tensor, float]) -> None:
    row, logits, stored = case
    space = space_of(logits.shape[1], temperature=stored)
    log_probs = torch.log_softmax(logits / space.temperature, dim=1)
    encoding = build_encoding(row, "test")
    tables = encoding.learn(log_probs[: len(log_probs) // 2], space)
    codec = encoding.codec(space, tables)
    fields = encode(codec, log_probs)
    for temperature in {space.temperature, *space.temperatures}:
        read = read_by_hand(row, space, tables, fields, temperature)
        decoded = codec.decode(fields, temperature).double().numpy()
        assert (np.abs(decoded - read.decoded) <= read.allowed[:, None] + 1e-5 * np.abs(read.decoded)).all()
        if row["tail"] == "rest":
            targets = codec.targets(fields, temperature)
            assert isinstance(targets, SparseTargets)
            assert targets.log_rest is not None
            whole = logsumexp(np.column_stack([read.log_kept, read.log_tail]))
            assert np.array_equal(targets.classes.numpy(), read.classes)
            allowed = read.allowed + 1e-5 * np.abs(read.log_tail - whole)
            assert (np.abs(targets.log_rest.double().numpy() - (read.log_tail - whole)) <= allowed).all()
            off = np.abs(targets.log_probs.double().numpy() - (read.log_kept - whole[:, None]))
            assert (off <= read.allowed[:, None] + 1e-5 * np.abs(read.log_kept - whole[:, None])).all()


@pytest.mark.parametrize("temperature", [3.0, *TEMPERATURES])
def test_kept_classes_outside_a_short_table_come_back(temperature: float) -> None:
    pilot, log_probs = similar_classes(0, 400, 20), similar_classes(1, 60, 20, noise=3)
    row = PRIOR | {"k": 5, "tail_classes": 4, "levels": 4096}
    encoding, space = build_encoding(row, "test"), space_of(20, temperature=3.0)
    tables = encoding.learn(pilot, space)
    codec = encoding.codec(space, tables)
    fields = encode(codec, log_probs)
    ranks = fields["classes"].numpy()[:, 1:]
    assert (ranks < 4).any()
    assert (ranks >= 4).any()
    assert ranks.max() < 24
    read = read_by_hand(row, space, tables, fields, temperature)
    assert np.array_equal(read.classes, in_order(log_probs, 5))
    decoded = codec.decode(fields, temperature)
    np.testing.assert_allclose(decoded, read.decoded, rtol=1e-4, atol=1e-4)
    order = np.argsort(-decoded.numpy(), axis=1, kind="stable")[:, :5]
    close = np.diff(np.take_along_axis(log_probs.numpy(), read.classes, axis=1), axis=1).max(axis=1) > -0.05
    assert np.array_equal(order[~close], read.classes[~close])


@pytest.mark.parametrize("row", [PRIOR, UNIFORM, REST])
@pytest.mark.parametrize("classes", [2, 3, 10, 17, 100])
def test_of_equal_classes_those_of_the_lowest_numbers_are_kept(row: Row, classes: int) -> None:
    rng = np.random.default_rng(classes)
    uniform, ties = np.zeros((5, classes)), rng.integers(0, 3, (40, classes))
    logits = torch.from_numpy(np.concatenate([uniform, ties])).to(torch.bfloat16).float()
    log_probs = torch.log_softmax(logits, dim=1)
    for k in {1, min(2, classes - 1), classes - 1}:
        codec = codec_of(row | {"k": k}, log_probs)
        fields = encode(codec, log_probs)
        for temperature in TEMPERATURES:
            assert torch.equal(codec.decode(fields, temperature).argmax(dim=1), logits.argmax(dim=1))
        rest = codec_of(REST | {"k": k}, log_probs)
        targets = rest.targets(encode(rest, log_probs), 1)
        assert isinstance(targets, SparseTargets)
        assert np.array_equal(targets.classes.numpy(), in_order(log_probs, k))


@pytest.mark.parametrize("tail", ["prior", "uniform", "rest"])
def test_two_classes_of_which_one_is_kept_are_as_good_as_dense(tail: str) -> None:
    log_probs = torch.log_softmax(torch.tensor([[0.0, 0], [3, 0], [0, 3], [30, 0], [1e4, -1e4], [0.01, 0]]), dim=1)
    codec = codec_of(PRIOR | {"k": 1, "tail": tail, "levels": 65535}, log_probs)
    fields = encode(codec, log_probs)
    for temperature in TEMPERATURES:
        exact = torch.log_softmax(log_probs.double() / temperature, dim=1)
        assert divergence(exact, codec.decode(fields, temperature)) < 2e-4
        assert torch.equal(codec.decode(fields, temperature).argmax(dim=1), log_probs.argmax(dim=1))


@pytest.mark.parametrize("row", [PRIOR, UNIFORM, REST])
@pytest.mark.parametrize("temperature", [1.5, 3, 0.5])
def test_a_temperature_that_was_not_declared_is_refused(row: Row, temperature: float) -> None:
    log_probs = similar_classes(0, 8, 6)
    codec = codec_of(row, log_probs, temperature=8.0, temperatures=(4.0, 1.0, 2.5))
    fields = encode(codec, log_probs)
    assert not codec.serves(temperature)
    for read in (codec.decode, codec.targets):
        with pytest.raises(
            StoreError, match=rf"temperature: {temperature:g}, .*declared when it was written: 1, 2\.5, 4, 8;"
        ):
            read(fields, temperature)
    for served in (1, 2.5, 4, 8):
        assert codec.serves(served)
        codec.decode(fields, served)


@pytest.mark.parametrize("tail", ["prior", "uniform", "rest"])
def test_one_temperature_needs_no_steps(tail: str) -> None:
    log_probs = similar_classes(0, 50, 6)
    for temperatures in ((), (2.0,)):
        codec = codec_of(PRIOR | {"tail": tail, "k": 2}, log_probs, temperature=2.0, temperatures=temperatures)
        fields = encode(codec, log_probs)
        assert fields.keys() == {"classes", "log_prob_codes"}
        assert divergence(log_probs, codec.decode(fields, 2.0)) < 0.2
        assert not codec.serves(1.0)


@pytest.mark.parametrize(
    ("row", "classes", "message"),
    [
        (PRIOR | {"k": 10}, 10, r"here\.k: 10; expected at most 9 for 10 classes; or a dense encoding"),
        (UNIFORM | {"k": 11}, 10, r"here\.k: 11; expected at most 9"),
        (REST | {"k": 2}, 2, r"here\.k: 2; expected at most 1 for 2 classes"),
        (PRIOR, 16_385, r"here\.tail: prior of 16,385 classes; expected at most 16,384.*tail: uniform"),
    ],
)
def test_settings_that_do_not_fit_the_labels_are_refused(row: Row, classes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoding(row, "here").check(space_of(classes), "here")


def test_settings_that_just_fit_the_labels_pass() -> None:
    for row, classes in [
        (PRIOR | {"k": 9}, 10),
        (PRIOR, 2),
        (PRIOR, 16_384),
        (REST, 16_385),
        (SAMPLED, 2),
        (FLOAT16, 2),
    ]:
        build_encoding(row, "here").check(space_of(classes), "here")


@pytest.mark.parametrize(
    ("row", "classes", "dtype"),
    [
        (UNIFORM, 255, "u1"),
        (UNIFORM, 256, "u2"),
        (REST, 65535, "u2"),
        (REST, 65536, "u4"),
        (UNIFORM, 2**32 - 1, "u4"),
        (UNIFORM, 2**32, "u8"),
        (PRIOR | {"tail_classes": 10}, 245, "u1"),  # class numbers start behind the table's
        (PRIOR | {"tail_classes": 10}, 246, "u2"),
        (PRIOR | {"tail_classes": 256}, 128, "u1"),
        (PRIOR | {"tail_classes": 256}, 129, "u2"),
        (SAMPLED, 255, "u1"),
        (SAMPLED, 256, "u2"),
        (SAMPLED, 65535, "u2"),
        (SAMPLED, 2**32, "u8"),
    ],
)
def test_class_numbers_have_the_smallest_type_with_room_for_the_fill_value(row: Row, classes: int, dtype: str) -> None:
    field = build_encoding(row, "test").fields(space_of(classes))["classes"]
    table = min(row["tail_classes"], classes - 1) if row.get("tail") == "prior" else 0
    assert field.dtype == np.dtype(dtype)
    assert field.fill_value == np.iinfo(field.dtype).max > classes + table - 1


@pytest.mark.parametrize("draws", [1, 254, 255, 65534])
def test_counts_have_the_smallest_type_with_room_for_the_fill_value(draws: int) -> None:
    field = build_encoding(SAMPLED | {"draws": draws}, "test").fields(space_of(10))["counts"]
    assert field.dtype == (np.uint8 if draws <= 254 else np.uint16)
    assert field.fill_value == np.iinfo(field.dtype).max > draws


@pytest.mark.parametrize(
    ("row", "classes"),
    [
        *[
            (row, classes)
            for row in (UNIFORM | {"k": 3}, REST | {"k": 3}, SAMPLED)
            for classes in (255, 256, 65535, 65536)
        ],
        *[(PRIOR | {"k": 3, "tail_classes": 1}, classes) for classes in (254, 255, 256)],
    ],
)
def test_the_highest_class_number_is_written_and_read(row: Row, classes: int) -> None:
    logits = torch.zeros(2, classes)
    logits[:, -3:] = torch.tensor([18.0, 19.0, 20.0])
    log_probs = torch.log_softmax(logits, dim=1)
    codec = codec_of(row, log_probs)
    fields = encode(codec, log_probs)
    for key, field in build_encoding(row, "test").fields(space_of(classes)).items():
        assert not field.is_unwritten(fields[key].numpy())
    targets = codec.targets(fields, 1.0)
    written = targets.classes if isinstance(targets, SparseTargets) else targets.argmax(dim=1)[:, None]
    assert written.max(dim=1).values.tolist() == [classes - 1] * 2
    if row["kind"] == "topk":
        assert codec.decode(fields, 1.0).argmax(dim=1).tolist() == [classes - 1] * 2
        assert divergence(log_probs, codec.decode(fields, 1.0)) < 2e-3


@pytest.mark.parametrize("tail", ["prior", "uniform", "rest"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_more_kept_classes_are_nearer_to_the_teacher_up_to_dense(tail: str, temperature: float) -> None:
    classes, scale = 8, {"levels": 255, "range_nats": 40.0}
    pilot, log_probs = similar_classes(0, 1000, classes), similar_classes(1, 300, classes)
    exact = torch.log_softmax(log_probs.double() / temperature, dim=1)
    found = []
    for k in range(1, classes):
        codec = codec_of({"kind": "topk", "k": k, "tail": tail, "tail_classes": 256} | scale, pilot)
        decoded = codec.decode(encode(codec, log_probs), temperature)
        found.append(divergence(exact, decoded))
    assert found[0] > 0.01
    assert all(after < before for before, after in pairwise(found) if before > 3e-3)
    dense_codec = codec_of({"kind": "dense_uint8"} | scale, pilot)
    dense = dense_codec.decode(encode(dense_codec, log_probs), temperature)
    assert found[-1] < 2 * divergence(exact, dense) + 1e-5
    torch.testing.assert_close(decoded, dense, rtol=0, atol=0.05)
    assert divergence(dense, decoded) < 1e-4


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("k", [1, 3])
def test_a_learned_tail_is_nearer_to_a_teacher_with_similar_classes(temperature: float, k: int) -> None:
    pilot, log_probs = similar_classes(0, 2000, 12), similar_classes(1, 500, 12)
    exact = torch.log_softmax(log_probs.double() / temperature, dim=1)
    found = {}
    for name, row in {
        "prior": PRIOR | {"tail_classes": 256},
        "short": PRIOR | {"tail_classes": 6},
        "even": UNIFORM,
    }.items():
        codec = codec_of(row | {"k": k}, pilot)
        found[name] = divergence(exact, codec.decode(encode(codec, log_probs), temperature))
    assert found["prior"] < 0.5 * found["even"]
    assert found["prior"] <= found["short"] < found["even"]


PILOTS = {
    "many": similar_classes(5, 500, 9),
    "one_label": similar_classes(5, 1, 9),
    "one_class": similar_classes(5, 80, 9, noise=0.1, only=4),
    "absurdly_sure": torch.log_softmax(torch.eye(9)[[2, 2, 5]] * 1e5, dim=1),
    "uniform": torch.full((20, 9), 1 / 9).log(),
}


@pytest.mark.parametrize("name", PILOTS)
@pytest.mark.parametrize("size", [1, 3, 256])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_learning_is_deterministic_and_makes_do_with_any_pilot(name: str, size: int, k: int) -> None:
    encoding, space = build_encoding(PRIOR | {"k": k, "tail_classes": size}, "test"), space_of(9, temperature=2.0)
    pilot = PILOTS[name]
    tables, again = encoding.learn(pilot, space), encoding.learn(pilot.clone(), space)
    shuffled = encoding.learn(pilot.flip(0), space)
    for key, field in encoding.tables(space).items():
        assert np.array_equal(tables[key], again[key])
        assert np.isfinite(tables[key]).all()
        assert not field.is_unwritten(tables[key])
        if key == "tail_offsets":
            np.testing.assert_allclose(shuffled[key], tables[key], atol=1e-6)
    for top, listed in enumerate(tables["prior_classes"]):
        assert len(set(listed.tolist()) - {top}) == min(size, 8)

    log_probs = similar_classes(6, 200, 9)
    codec = encoding.codec(space, tables)
    fields = encode(codec, log_probs)
    for temperature in TEMPERATURES:
        decoded = codec.decode(fields, temperature)
        assert torch.isfinite(decoded).all()
        assert torch.equal(decoded.argmax(dim=1), log_probs.argmax(dim=1))


def test_a_pilot_is_learned_from_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding, pilot, space = build_encoding(PRIOR | {"k": 2}, "test"), similar_classes(5, 250, 9), space_of(9)
    whole = encoding.learn(pilot, space)
    for entries in (1, 9 * 100):
        monkeypatch.setattr("pipeline.labels.encodings.tail._PIECE_ENTRIES", entries)
        for key, table in encoding.learn(pilot, space).items():
            np.testing.assert_allclose(table, whole[key], rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("name", ["one_label", "one_class"])
def test_classes_that_the_pilot_always_keeps_are_not_given_up(name: str, k: int) -> None:
    # Its own most likely class never was in the pilot's tail; in the tail of other labels it may be
    # the first.
    log_probs = similar_classes(6, 500, 9)
    learned, even = (
        codec.decode(encode(codec, log_probs), 1.0)
        for codec in (
            codec_of(PRIOR | {"k": k, "tail_classes": 256}, PILOTS[name]),
            codec_of(UNIFORM | {"k": k}, log_probs),
        )
    )
    assert divergence(log_probs, learned) < 5 * divergence(log_probs, even)
    assert learned.min() > -25


def test_only_a_prior_has_something_to_learn() -> None:
    for row in (UNIFORM, REST, SAMPLED, FLOAT16, UINT8):
        encoding = build_encoding(row, "test")
        assert encoding.learn(similar_classes(0, 5, 6), space_of(6)) == encoding.tables(space_of(6)) == {}


def test_the_prior_is_the_mean_tail_of_labels_with_the_same_most_likely_class() -> None:
    pilot, classes, k = similar_classes(2, 6000, 7), 7, 2
    encoding = build_encoding(PRIOR | {"k": k, "tail_classes": 256}, "test")
    tables, num_compared = encoding.learn(pilot, space_of(classes)), 0
    for number, temperature in enumerate(TEMPERATURES):
        probs = np.exp(softened(pilot, temperature).numpy())
        order = in_order(pilot, k)
        for top in range(classes):
            mine = order[:, 0] == top
            left = np.ones((mine.sum(), classes), dtype=bool)
            np.put_along_axis(left, order[mine], False, axis=1)
            shares = (probs[mine] * left).sum(axis=0) / np.maximum(left.sum(axis=0), 1)
            enough = (left.sum(axis=0) >= 200) & (shares > 0.02 * shares.sum())  # little smoothed
            num_compared += enough.sum()
            if not enough.any():
                continue
            wanted = np.log(shares[enough])
            found = np.full(classes, np.nan)
            found[tables["prior_classes"][top]] = -40 * (tables["prior_codes"][number][top] / 254) ** 2
            # Up to a factor: a reader normalises over the classes that a label does not keep.
            np.testing.assert_allclose(found[enough] - found[enough].mean(), wanted - wanted.mean(), atol=0.25)
    assert num_compared > 40
    shares_at_first = tables["prior_codes"][0].astype(int)
    assert (np.diff(shares_at_first, axis=1) >= 0).all()  # the most likely first


def test_a_short_table_has_the_other_classes_together() -> None:
    pilot, space = similar_classes(2, 500, 9), space_of(9)
    whole, short = (build_encoding(PRIOR | {"tail_classes": m}, "test").learn(pilot, space) for m in (256, 3))
    assert np.array_equal(short["prior_classes"], whole["prior_classes"][:, :3])
    assert np.array_equal(short["prior_codes"], whole["prior_codes"][:, :, :3])
    shares = np.exp(-40 * (whole["prior_codes"][:, :, 3:] / 254.0) ** 2)
    np.testing.assert_allclose(-40 * (short["prior_rest_codes"] / 254.0) ** 2, np.log(shares.sum(axis=2)), atol=0.15)


# Sampled classes.


@PROPERTY
@given(logits=any_logits(), draws=st.sampled_from([1, 2, 3, 4, 5, 12, 255, 400]), seed=st.integers(0, 2**64 - 1))
def test_counts_add_up_and_name_each_class_once(logits: torch.Tensor, draws: int, seed: int) -> None:
    log_probs = torch.log_softmax(logits, dim=1)
    row = SAMPLED | {"draws": draws, "seed": seed}
    codec = codec_of(row, log_probs)
    fields = encode(codec, log_probs)
    counts, classes = fields["counts"].numpy().astype(int), fields["classes"].numpy().astype(int)
    assert counts.shape[1] == min(draws, logits.shape[1])
    assert (counts.sum(axis=1) == draws).all()
    assert (np.diff(counts, axis=1) <= 0).all()
    assert classes.max() < logits.shape[1]
    for label, (numbers, times) in enumerate(zip(classes, counts, strict=True)):
        met = numbers[times > 0]
        assert len(set(met)) == len(met)
        assert (log_probs[label, met] > -80).all()  # nobody draws what the teacher rules out
        assert all(a < b for a, b, m, n in zip(met[:-1], met[1:], times[:-1], times[1:], strict=False) if m == n)
    targets = codec.targets(fields, 1.0)
    assert isinstance(targets, SparseTargets)
    assert targets.log_rest is None
    np.testing.assert_allclose(targets.log_probs.exp(), counts / draws, rtol=1e-5)
    by_hand = np.full(logits.shape, 1 / logits.shape[1])
    for label in range(len(logits)):
        np.add.at(by_hand[label], classes[label], counts[label])
    np.testing.assert_allclose(codec.decode(fields, 1.0).exp(), by_hand / (draws + 1), rtol=1e-4)


def test_draws_depend_on_seed_sample_and_view_alone() -> None:
    log_probs = torch.log_softmax(torch.randn(1, 50, generator=torch.Generator().manual_seed(0)), dim=1)

    def label(seed: int = 3, sample: int = 9, view: int = 1, batch: int = 1) -> tuple[tuple[int, int], ...]:
        codec = codec_of(SAMPLED | {"seed": seed}, log_probs)
        ids = np.array([*range(100, 99 + batch), sample], dtype=np.uint64)
        fields = codec.encode(log_probs.expand(batch, -1), ids, view)
        return tuple(zip(fields["classes"][-1].tolist(), fields["counts"][-1].tolist(), strict=True))

    labels = [label(), label(seed=4), label(sample=10), label(sample=9 + 2**63), label(view=2), label(view=0)]
    assert len(set(labels)) == len(labels)
    assert label() == label(batch=2) == label(batch=37) == labels[0]


def test_draws_are_known_numbers() -> None:
    # Whoever reads a store in ten years finds the same draws: this must never change.
    log_probs = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(3, 1)
    fields = codec_of(SAMPLED, log_probs).encode(log_probs, np.array([1, 2, 2**64 - 1], dtype=np.uint64), 5)
    assert fields["classes"].tolist() == [[2, 3, 0, 1], [2, 3, 1, 2], [2, 3, 0, 1]]
    assert fields["counts"].tolist() == [[5, 4, 2, 1], [5, 4, 3, 0], [4, 4, 2, 2]]


@pytest.mark.parametrize(("word", "met"), [(0, [1, 0, 2]), (2**31, [1, 1, 4]), (2**32 - 1, [3, 3, 4])])
def test_the_least_and_the_largest_number_draw_no_class_without_probability(
    monkeypatch: pytest.MonkeyPatch, word: int, met: list[int]
) -> None:
    probs = torch.tensor([[0, 0.75, 0, 0.25, 0], [0.4, 0.2, 0, 0.4, 0], [0, 0, 0.5, 0, 0.5]])
    log_probs = probs.log().clamp(min=-1e5)
    monkeypatch.setattr("pipeline.labels.encodings.sampled.sample_draws", lambda *_: torch.full((4, 3), word))
    fields = encode(codec_of(SAMPLED, log_probs), log_probs)
    assert fields["classes"][:, 0].tolist() == met
    assert fields["counts"][:, 0].tolist() == [12] * 3


@pytest.mark.parametrize("stored", [1.0, 2.0])
def test_draws_serve_the_stored_temperature_alone(stored: float) -> None:
    log_probs = similar_classes(0, 8, 6)
    codec = codec_of(SAMPLED, log_probs, temperature=stored)
    fields = encode(codec, log_probs)
    assert [t for t in TEMPERATURES if codec.serves(t)] == [stored]
    for read in (codec.decode, codec.targets):
        with pytest.raises(StoreError, match=rf"temperature: 4, .*declared when it was written: {stored:g};"):
            read(fields, 4)


def test_a_teacher_without_doubt_is_drawn_whole() -> None:
    logits = torch.full((3, 5), -1e5)
    logits[[0, 1, 2], [0, 2, 4]] = 1e5
    log_probs = torch.log_softmax(logits, dim=1)
    for draws in (1, 3, 9):
        codec = codec_of(SAMPLED | {"draws": draws}, log_probs)
        fields = encode(codec, log_probs)
        assert fields["classes"][:, 0].tolist() == [0, 2, 4]
        assert fields["counts"][:, 0].tolist() == [draws] * 3
        assert (fields["classes"] == fields["classes"][:, :1]).all()  # padding repeats the first
        assert codec.decode(fields, 1.0).argmax(dim=1).tolist() == [0, 2, 4]
        targets = codec.targets(fields, 1.0)
        loss = knowledge_distillation(torch.zeros(3, 5), targets, temperature=1.0)
        torch.testing.assert_close(loss, torch.full((3,), np.log(5)).float())


@pytest.mark.parametrize("draws", [1, 8])
@pytest.mark.parametrize("by_seed", [False, True])
def test_the_gradient_on_draws_is_the_dense_gradient_on_average(draws: int, by_seed: bool) -> None:
    classes, temperature = 6, 2.0
    log_probs = torch.log_softmax(torch.tensor([[3.0, 1.5, 0, 0, -1, -4]]) / temperature, dim=1)
    student = torch.tensor([[0.5, 1, -1, 2, 0, 0]])

    def gradient(targets: torch.Tensor | SparseTargets, count: int) -> np.ndarray:
        logits = student.repeat(count, 1).requires_grad_()
        knowledge_distillation(logits, targets, temperature=temperature).sum().backward()
        assert logits.grad is not None
        return logits.grad.double().numpy()

    dense = gradient(log_probs, 1)[0]
    count, per_seed = (600, 5) if by_seed else (6400, 6400)
    parts = []
    for seed in range(count // per_seed):
        codec = codec_of(SAMPLED | {"draws": draws, "seed": seed}, log_probs, temperature=temperature)
        fields = encode(codec, log_probs.repeat(per_seed, 1), view=seed)
        parts.append(gradient(codec.targets(fields, temperature), per_seed))
    found = np.concatenate(parts)
    assert found.shape == (count, classes)
    # The loss is temperature^2 KL, its gradient temperature (student - shares).
    p = log_probs.double().exp().numpy()[0]
    deviation = temperature * np.sqrt(p * (1 - p) / draws)
    np.testing.assert_allclose(found.std(axis=0), deviation, rtol=0.35, atol=0.01)
    assert (np.abs(found.mean(axis=0) - dense) < 4.5 * deviation / np.sqrt(count)).all()
    # Means of 4 times as many labels are half as far away.
    few, many = (np.square(found.reshape(-1, n, classes).mean(axis=1) - dense).sum(axis=1).mean() for n in (5, 20))
    assert 0.3 < np.sqrt(many / few) < 0.75


def test_many_draws_come_near_the_teacher() -> None:
    log_probs = similar_classes(0, 20, 10)
    found = []
    for draws in (10, 160, 2560):
        codec = codec_of(SAMPLED | {"draws": draws}, log_probs)
        found.append(divergence(log_probs, codec.decode(encode(codec, log_probs), 1.0)))
    assert found[0] > 5 * found[1] > 25 * found[2]
    assert found[2] < 4e-3  # some (classes - 1) / 2 draws


@pytest.mark.parametrize("row", LABELLED.values(), ids=LABELLED)
def test_an_encoding_says_how_much_its_targets_tell(row: Row) -> None:
    log_probs = similar_classes(0, 40, 8)
    codec, detail = codec_of(row, log_probs), fitting(row, 8).detail
    targets = codec.targets(encode(codec, log_probs), 1.0)
    assert isinstance(targets, SparseTargets) == (detail == "some classes")
    if isinstance(targets, torch.Tensor):  # unlikely classes are right only where the very label holds them
        unlikely = log_probs.argmin(dim=1, keepdim=True)
        off = (targets.gather(1, unlikely) - log_probs.gather(1, unlikely)).abs().max()
        assert (off < 0.5) == (detail == "every class")
    assert build_encoding({"kind": "none"}, "test").detail == "nothing"


# Settings.


@pytest.mark.parametrize(
    "row", [{"kind": "none"}, {"kind": "dense_uint8", "range_nats": 12.5, "levels": 9}, *LABELLED.values()]
)
def test_a_row_makes_an_encoding_and_the_encoding_its_row(row: Row) -> None:
    encoding = build_encoding(row, "test")
    assert encoding.to_dict() == row
    assert build_encoding(encoding.to_dict(), "test") == encoding
    assert hash(build_encoding(row, "elsewhere")) == hash(encoding)


def test_every_registered_kind_is_known_by_its_own_name() -> None:
    assert {name: kind.kind for name, kind in ENCODINGS.items()} == {name: name for name in ENCODINGS}


def without(row: Row, key: str) -> Row:
    return {name: value for name, value in row.items() if name != key}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (UINT8 | {"kind": "dense_uint9"}, r"encodings\.x\.kind: 'dense_uint9'.*did you mean 'dense_uint8'"),
        (without(UINT8, "kind"), "expected a map with `kind`"),
        ("topk", "'topk'; expected a map with `kind`, one of: dense_float16, "),
        ({"kind": None}, "kind: 'None'"),
        (without(UINT8, "range_nats") | {"range_nat": 40.0}, r"x\.range_nat: unknown key.*did you mean 'range_nats'"),
        (without(UINT8, "range_nats"), r"x\.range_nats: this key is missing"),
        (without(UINT8, "levels"), r"x\.levels: this key is missing"),
        (UINT8 | {"range_nats": "40"}, r"x\.range_nats: '40' \(str\); expected"),
        (UINT8 | {"range_nats": 0.0}, r"x\.range_nats: 0.0.*greater than 0"),
        (UINT8 | {"range_nats": float("nan")}, r"x\.range_nats: nan"),
        (UINT8 | {"levels": 256}, r"x\.levels: 256.*less than or equal to 255"),
        (UINT8 | {"levels": 1}, r"x\.levels: 1.*greater than or equal to 2"),
        ({"kind": "dense_float16", "range_nats": 40.0}, r"x\.range_nats: unknown key"),
        ({"kind": "none", "views": 3}, r"x\.views: unknown key"),
        (PRIOR | {"kind": "top_k"}, r"x\.kind: 'top_k'.*did you mean 'topk'"),
        (without(PRIOR, "k"), r"x\.k: this key is missing"),
        (without(PRIOR, "tail_classes"), r"x\.tail_classes: this key is missing"),
        (PRIOR | {"k": 0}, r"x\.k: 0.*greater than or equal to 1"),
        (PRIOR | {"k": 2.0}, r"x\.k: 2\.0 \(float\); expected a valid integer"),
        (PRIOR | {"levels": 65536}, r"x\.levels: 65536.*less than or equal to 65535"),
        (PRIOR | {"range_nats": 1000.5}, r"x\.range_nats: 1000\.5.*less than or equal to 1000"),
        (PRIOR | {"tail": "even"}, r"x\.tail: 'even'.*'prior', 'uniform' or 'rest'"),
        (PRIOR | {"tail_classes": 0}, r"x\.tail_classes: 0.*greater than or equal to 1"),
        (PRIOR | {"tail_class": 4}, r"x\.tail_class: unknown key.*did you mean 'tail_classes'"),
        (without(SAMPLED, "seed"), r"x\.seed: this key is missing"),
        (SAMPLED | {"draws": 0}, r"x\.draws: 0.*greater than or equal to 1"),
        (SAMPLED | {"draws": 65535}, r"x\.draws: 65535.*less than or equal to 65534"),
        (SAMPLED | {"seed": -1}, r"x\.seed: -1.*greater than or equal to 0"),
        (SAMPLED | {"seed": 2**64}, r"x\.seed: a number of 65 bits; expected at most 64 bits"),
        (SAMPLED | {"temperature": 1.0}, r"x\.temperature: unknown key"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_key(row: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoding(row, "params.yaml: encodings.x")


def test_the_encoding_without_labels_stores_nothing_and_refuses_to_be_read() -> None:
    encoding = build_encoding({"kind": "none"}, "test")
    space = space_of(10)
    assert encoding.fields(space) == encoding.tables(space) == {}
    codec = encoding.codec(space, {})
    assert encode(codec, torch.log_softmax(torch.randn(2, 10), dim=1)) == {}
    for read in (codec.decode, codec.targets):
        with pytest.raises(StoreError, match="holds no soft labels"):
            read({}, 1)


# Log-odds of independent classes.


def space_of_odds(classes: int, temperature: float) -> LabelSpace:
    return LabelSpace(classes, temperature, TEMPERATURES, "binary")


def odds_bound(codes: torch.Tensor, steps: int, range_nats: float) -> torch.Tensor:
    size = (codes.double() - steps).abs()
    return range_nats * (size / steps**2 + 1 / (4 * steps**2)) * (1 + 1e-6) + 1e-6


@PROPERTY
@given(
    logits=any_logits(),
    steps=st.integers(1, 127),
    range_nats=st.floats(1e-2, 1000),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_log_odds_in_8_bits_keep_the_stated_error_bound_at_every_temperature(
    logits: torch.Tensor, steps: int, range_nats: float, temperature: float
) -> None:
    row = {"kind": "log_odds_uint8", "range_nats": range_nats, "steps": steps}
    codec = build_encoding(row, "test").codec(space_of_odds(logits.shape[1], 2.0), {})
    fields = encode(codec, logits)
    codes = fields["log_odds_codes"]
    assert int(codes.max()) <= 2 * steps < 255
    read = codec.decode(fields, temperature).double() * temperature / 2.0
    clipped = logits.double().clamp(-range_nats, range_nats)
    assert ((read - clipped).abs() <= odds_bound(codes, steps, range_nats)).all()
    assert ((read >= 0) == (logits >= 0))[codes != steps].all()  # a side changes where both are about 0 alone
    torch.testing.assert_close(codec.decode(encode(codec, -logits), 2.0), -codec.decode(fields, 2.0), rtol=0, atol=0)


@PROPERTY
@given(logits=any_logits(), k=st.integers(1, 5), temperature=st.sampled_from(TEMPERATURES))
def test_top_odds_keep_the_largest_within_the_bound_and_the_others_at_their_mean(
    logits: torch.Tensor, k: int, temperature: float
) -> None:
    row = {"kind": "top_odds", "k": min(k, logits.shape[1] - 1), "range_nats": 16.0, "steps": 31}
    encoding, space = build_encoding(row, "test"), space_of_odds(logits.shape[1], 1.0)
    tables = encoding.learn(logits, space)
    codec = encoding.codec(space, tables)
    fields = encode(codec, logits)
    read, kept = codec.decode(fields, temperature).double(), fields["classes"].long()
    bound = odds_bound(fields["log_odds_codes"], 31, 16.0) / temperature
    exact = logits.double().gather(1, kept).clamp(-16, 16) / temperature
    assert ((read.gather(1, kept) - exact).abs() <= bound).all()
    is_kept = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, kept, True)
    smallest = logits.gather(1, kept).min(dim=1, keepdim=True).values
    assert (logits <= smallest)[~is_kept].all()
    probs, others = torch.sigmoid(logits.double() / temperature), ~is_kept
    for number in range(logits.shape[1]):
        left = others[:, number]
        if left.any():
            mean = float(torch.sigmoid(read[:, number])[left][0])
            assert mean == pytest.approx(float(probs[left, number].mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("row", "signal", "told"),
    [
        (
            UINT8,
            "binary",
            "x.kind: 'dense_uint8', which holds labels of the signal categorical; expected one for binary",
        ),
        (PRIOR, "binary", "x.kind: 'topk'"),
        (SAMPLED, "binary", "x.kind: 'sampled'"),
        ({"kind": "log_odds_uint8", "range_nats": 16.0, "steps": 127}, "categorical", "x.kind: 'log_odds_uint8'"),
        ({"kind": "top_odds", "k": 9, "range_nats": 16.0, "steps": 127}, "binary", "x.k: 9; expected at most 4 for 5"),
    ],
)
def test_an_encoding_of_another_signal_is_one_line(row: Row, signal: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        build_encoding(row, "test").check(LabelSpace(5, 1.0, (1.0,), signal), "x")
    assert len(str(caught.value)) <= 500
