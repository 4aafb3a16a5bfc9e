"""Outputs of a kind that the data's classes do not go with, and sigmoids as log-odds."""

import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.models.output_kinds import OutputKind, as_logits, check_meaning
from pipeline.signals import SignalKind, signal_named


def test_sigmoids_become_log_odds_and_stay_finite() -> None:
    odds = torch.tensor([[-3.0, 0.5, 12.0]])
    torch.testing.assert_close(as_logits(odds.sigmoid(), "sigmoids"), odds, rtol=1e-2, atol=1e-5)
    sure = as_logits(torch.tensor([[0.0, 1.0]]), "sigmoids")
    assert sure.isfinite().all()
    assert sure[0, 0] < -80
    assert sure[0, 1] > 16


@pytest.mark.parametrize(
    ("kind", "signal"), [(None, "binary"), ("logits", "binary"), ("sigmoids", "binary"), ("log_probs", "categorical")]
)
def test_outputs_that_go_with_the_classes_are_taken(kind: OutputKind | None, signal: SignalKind) -> None:
    check_meaning(kind, [[1], [0]], signal_named(signal), "x")


@pytest.mark.parametrize(
    ("kind", "groups", "signal", "line"),
    [
        ("probabilities", None, "binary", "x.outputs: probabilities, which are of one softmax, and .* or sigmoids"),
        ("log_probs", None, "binary", "x.outputs: log_probs, which are of one softmax"),
        (None, [[0], [1, 2]], "binary", "x.class_map: several outputs for a class, and .* one output for each class"),
        ("sigmoids", None, "categorical", "x.outputs: sigmoids, and each sample of the data is of one class"),
    ],
)
def test_outputs_of_another_signal_are_refused_in_a_line(
    kind: OutputKind | None, groups: list[list[int]] | None, signal: SignalKind, line: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{line}") as caught:
        check_meaning(kind, groups, signal_named(signal), "x")
    assert "\n" not in str(caught.value)
