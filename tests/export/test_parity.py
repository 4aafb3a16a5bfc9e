"""Parity: a difference between logits is judged by their spread."""

from dataclasses import dataclass

import pytest
import torch

from pipeline.export.libraries import ExportError
from pipeline.export.parity import compare


@dataclass(frozen=True)
class Case:
    """The logits of torch, how far a file's are off, and whether that is too far."""

    scale: float
    off: float
    refused: bool
    constant: float | None = None  # the logits of a class


CASES = {
    "ordinary logits, rounded": Case(5.0, 1e-5, refused=False),
    "ordinary logits, wrong": Case(5.0, 5e-3, refused=True),
    "logits of 10,000, rounded": Case(1e4, 0.22, refused=False),
    "logits of 10,000, wrong": Case(1e4, 50.0, refused=True),
    "logits that hardly differ, rounded": Case(1e-3, 1e-6, refused=False),
    "logits that hardly differ, wrong": Case(1e-3, 1e-2, refused=True),
    "all the same": Case(0.0, 0.0, refused=False),
    "a class switched off, the others rounded": Case(5.0, 1e-5, refused=False, constant=-1e9),
    "a class switched off, the others wrong": Case(5.0, 5e-3, refused=True, constant=-1e9),
    "a class of no likelihood, the others rounded": Case(5.0, 1e-5, refused=False, constant=-torch.inf),
    "a class of no likelihood, the others wrong": Case(5.0, 5e-3, refused=True, constant=-torch.inf),
    "no number": Case(5.0, torch.nan, refused=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_difference_is_judged_by_the_spread_of_the_logits(case: Case) -> None:
    exact = case.scale * torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    found = exact.clone()
    found[7, 3] += case.off
    if case.constant is not None:
        exact[:, 9] = found[:, 9] = case.constant
    parity = compare(found, exact, exact.argmax(dim=1))
    if not case.refused:
        parity.require(1e-4, "model.onnx")
        return
    with pytest.raises(ExportError, match=r"^model\.onnx: a logit differs .* of the logits' spread .*logit_tolerance"):
        parity.require(1e-4, "model.onnx")
