"""Independent classes: one calibration temperature, or one for each class, by held-out samples."""

import pytest
import torch

from pipeline.signals import Signal
from pipeline.signals.binary import Binary
from pipeline.signals.categorical import CATEGORICAL
from pipeline.teacher.calibration import fit_temperature
from pipeline.teacher.class_temperatures import compare_temperatures


def drawn(temperatures: list[float], count: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-odds that are right at temperatures of their own, and entries drawn by them."""
    generator = torch.Generator().manual_seed(0)
    odds = 3 * torch.randn(count, len(temperatures), generator=generator)
    entries = (torch.rand(odds.shape, generator=generator) < odds.sigmoid()).to(torch.int8)
    entries[torch.rand(odds.shape, generator=generator) < 0.1] = -1
    return odds * torch.tensor(temperatures), entries


def test_a_temperature_is_found_over_known_entries() -> None:
    assert fit_temperature(*drawn([2.5, 2.5]), Binary()) == pytest.approx(2.5, rel=0.05)


def test_classes_of_several_tempers_have_one_each(capsys: pytest.CaptureFixture[str]) -> None:
    found = compare_temperatures(*drawn([0.5, 1.0, 4.0]), Binary(), fit_temperature)
    assert found["class_temperatures"] == pytest.approx([0.5, 1.0, 4.0], rel=0.1)
    assert found["held_out_nll"]["by_class"] < found["held_out_nll"]["shared"]
    assert "one for each class is kept" in capsys.readouterr().err


def test_classes_of_one_temper_keep_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Of few samples, one for each class fits noise, which the other half shows."""
    odds, entries = drawn([2.0] * 6, count=60)
    found = compare_temperatures(odds, entries, Binary(), fit_temperature)
    assert "class_temperatures" not in found
    assert "one is kept" in capsys.readouterr().err


@pytest.mark.parametrize(("signal", "classes"), [(CATEGORICAL, 3), (Binary(), 1)], ids=["a softmax", "one class"])
def test_there_is_nothing_to_compare_for_one_softmax_or_one_class(signal: Signal, classes: int) -> None:
    assert compare_temperatures(torch.zeros(4, classes), torch.zeros(4, classes), signal, fit_temperature) == {}
