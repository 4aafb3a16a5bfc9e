"""Encodings: stated error bounds, normalised decoding at any temperature, and settings that are checked."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.encodings import ENCODINGS, Encoding, build_encoding
from pipeline.encodings.dense_float16 import LOWEST
from pipeline.errors import ConfigError, StoreError

PROPERTY = settings(max_examples=50, deadline=None, database=None)

FLOAT16 = build_encoding({"kind": "dense_float16"}, "test")
UINT8 = build_encoding({"kind": "dense_uint8", "range_nats": 40.0}, "test")
DENSE = {"float16": FLOAT16, "uint8": UINT8}


@st.composite
def any_logits(draw: st.DrawFn) -> torch.Tensor:
    """Teachers of all sorts, 2 to 1,000 classes: ordinary, unsure, sure, and absurdly sure."""
    classes = draw(st.sampled_from([2, 3, 10, 100, 1000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(0, draw(st.sampled_from([0.0, 1e-3, 1.0, 5.0, 50.0, 1e4])), (4, classes))
    logits[:, rng.integers(classes)] += draw(st.sampled_from([0.0, 5.0, 20.0, 1e3, 1e5]))
    return torch.from_numpy(logits).float()


def scores_and_bounds(encoding: Encoding, log_probs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What is stored before renormalising, what it should be (clipped to the range), and the docstring's bound."""
    fields = encoding.encode(log_probs)
    exact = log_probs.double()
    if encoding.kind == "dense_float16":
        return fields["log_probs"].double(), exact.clamp(min=LOWEST), 2**-11 * exact.abs().clamp(max=-LOWEST) + 2**-25
    codes, span = fields["log_prob_codes"].double(), encoding.to_dict()["range_nats"]
    bound = span * (codes / 254**2 + 1 / (4 * 254**2))
    return -span * (codes / 254) ** 2, exact.clamp(min=-span), bound * 1.001  # the code is computed in float32


@pytest.mark.parametrize("name", DENSE)
@PROPERTY
@given(logits=any_logits())
def test_stored_values_keep_the_stated_error_bound(name: str, logits: torch.Tensor) -> None:
    stored, exact, bound = scores_and_bounds(DENSE[name], torch.log_softmax(logits, dim=1))
    assert ((stored - exact).abs() <= bound).all()


@pytest.mark.parametrize("name", DENSE)
@PROPERTY
@given(
    logits=any_logits(), stored_temperature=st.sampled_from([1.0, 2.0]), temperature=st.sampled_from([0.5, 1.0, 4.0, 9])
)
def test_labels_read_at_any_temperature_are_normalised_and_the_teachers_within_the_bound(
    name: str, logits: torch.Tensor, stored_temperature: float, temperature: float
) -> None:
    encoding = DENSE[name]
    log_probs = torch.log_softmax(logits / stored_temperature, dim=1)
    fields = encoding.encode(log_probs)
    decoded = encoding.decode(fields, stored_temperature=stored_temperature, temperature=temperature)
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded.exp().sum(dim=1), torch.ones(len(logits)), rtol=0, atol=2e-5)

    _, clipped, bound = scores_and_bounds(encoding, log_probs)
    ratio = stored_temperature / temperature
    expected, bound = torch.log_softmax(clipped * ratio, dim=1), bound * ratio
    # A class is off by its own error and by that of the normaliser, which the likely classes decide.
    allowed = bound + torch.logsumexp(expected + bound, dim=1, keepdim=True) + 1e-4 + 1e-6 * expected.abs()
    assert ((decoded.double() - expected).abs() <= allowed).all()
    # Nothing is clipped but what is out of range: there the labels are those of the logits themselves.
    if (clipped == log_probs.double()).all():
        exact = torch.log_softmax(logits.double() / temperature, dim=1)
        assert ((decoded.double() - exact).abs() <= allowed + 1e-5 * logits.abs().max()).all()


@pytest.mark.parametrize("name", DENSE)
@PROPERTY
@given(logits=any_logits())
def test_no_label_looks_like_one_that_was_never_written(name: str, logits: torch.Tensor) -> None:
    encoding, classes = DENSE[name], logits.shape[1]
    fields, encoded = encoding.fields(classes), encoding.encode(torch.log_softmax(logits, dim=1))
    assert fields.keys() == encoded.keys()
    for key, field in fields.items():
        values = encoded[key].numpy()
        assert values.dtype == field.dtype
        assert values.shape == (len(logits), *field.shape)
        assert not field.is_unwritten(values)
        hole = values.copy()
        hole[2] = field.fill_value
        assert field.is_unwritten(hole)


def test_a_sure_teachers_second_thoughts_survive() -> None:
    # As float16 probabilities the last two would both be 0.
    log_probs = torch.log_softmax(torch.tensor([[25.0, 5.0, 0.0]]), dim=1)
    for encoding in DENSE.values():
        decoded = encoding.decode(encoding.encode(log_probs), stored_temperature=1, temperature=10)
        exact = torch.log_softmax(torch.tensor([[2.5, 0.5, 0.0]]), dim=1)
        torch.testing.assert_close(decoded, exact, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "row", [{"kind": "dense_float16"}, {"kind": "dense_uint8", "range_nats": 12.5}, {"kind": "none"}]
)
def test_a_row_makes_an_encoding_and_the_encoding_its_row(row: dict[str, Any]) -> None:
    encoding = build_encoding(row, "test")
    assert encoding.to_dict() == row
    assert build_encoding(encoding.to_dict(), "test") == encoding


def test_every_registered_kind_is_known_by_its_own_name() -> None:
    assert {name: kind.kind for name, kind in ENCODINGS.items()} == {name: name for name in ENCODINGS}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"kind": "dense_uint9", "range_nats": 40.0}, r"encodings\.x\.kind: 'dense_uint9'.*did you mean 'dense_uint8'"),
        ({"range_nats": 40.0}, "expected a map with `kind`"),
        ({"kind": None}, "kind: 'None'"),
        ({"kind": "dense_uint8", "range_nat": 40.0}, r"x\.range_nat: unknown key.*did you mean 'range_nats'"),
        ({"kind": "dense_uint8"}, r"x\.range_nats: this key is missing"),
        ({"kind": "dense_uint8", "range_nats": "40"}, r"x\.range_nats: '40' \(str\); expected"),
        ({"kind": "dense_uint8", "range_nats": 0.0}, r"x\.range_nats: 0.0.*greater than 0"),
        ({"kind": "dense_uint8", "range_nats": float("nan")}, r"x\.range_nats: nan"),
        ({"kind": "dense_float16", "range_nats": 40.0}, r"x\.range_nats: unknown key"),
        ({"kind": "none", "views": 3}, r"x\.views: unknown key"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_key(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoding(row, "params.yaml: encodings.x")


def test_the_encoding_without_labels_stores_nothing_and_refuses_to_be_read() -> None:
    encoding = build_encoding({"kind": "none"}, "test")
    assert encoding.fields(10) == {}
    assert encoding.encode(torch.log_softmax(torch.randn(2, 10), dim=1)) == {}
    with pytest.raises(StoreError, match="holds no soft labels"):
        encoding.decode({}, stored_temperature=1, temperature=1)
