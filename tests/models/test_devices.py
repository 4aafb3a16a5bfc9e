"""Devices and number formats: what is asked for is given or refused, and the trial leaves no
trace."""

import pytest
import torch
from conftest import make_split

import pipeline.models.precision
from pipeline.core.errors import ConfigError
from pipeline.models import Classifier, ClassifierSpec
from pipeline.models.devices import choose_device
from pipeline.models.precision import choose_precision, inference_precision

CPU = torch.device("cpu")
IMAGES = make_split(16).inputs


@pytest.fixture
def model() -> Classifier:
    return ClassifierSpec(
        "convnet_small", {"width": 4, "depth": 1}, num_classes=4, channels=1, mean=[0.3], std=[0.2]
    ).build()


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == CPU


def test_a_device_that_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match=r"device 'cuda': not on this machine; expected one of: auto, cpu$"):
        choose_device("cuda")


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


@pytest.mark.usefixtures("three_gpus")
def test_auto_takes_the_accelerator_where_there_is_one() -> None:
    assert choose_device("auto") == torch.device("cuda", 0)
    assert choose_device("cpu", 2) == CPU


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_processes_on_one_machine_take_its_gpus_in_turn(name: str) -> None:
    devices = [choose_device(name, index) for index in range(7)]
    assert devices == [torch.device("cuda", index) for index in (0, 1, 2, 0, 1, 2, 0)]


def test_processes_without_gpus_share_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [choose_device("auto", index) for index in range(3)] == [CPU] * 3


def test_a_device_that_does_not_exist_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"device 'tpu': not on this machine; expected one of: auto, .*cpu$"):
        choose_device("tpu")


def test_a_number_format_that_is_asked_for_is_taken_without_a_trial(
    model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pipeline.models.precision, "_trial_seconds")
    assert choose_precision("float32", model, IMAGES, CPU) is torch.float32
    assert choose_precision("bfloat16", model, IMAGES, CPU) is torch.bfloat16


@pytest.mark.parametrize(("bfloat16_seconds", "chosen"), [(0.5, torch.bfloat16), (0.95, torch.float32)])
def test_auto_on_a_cpu_takes_bfloat16_where_it_is_clearly_faster(
    model: Classifier, monkeypatch: pytest.MonkeyPatch, bfloat16_seconds: float, chosen: torch.dtype
) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: bfloat16_seconds}
    monkeypatch.setattr(pipeline.models.precision, "_cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(pipeline.models.precision, "_trial_seconds", lambda model, images: seconds)
    assert choose_precision("auto", model, IMAGES, CPU) is chosen


def test_auto_on_a_cpu_without_bfloat16_does_not_try_it(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.models.precision, "_cpu_has_bfloat16", lambda: False)
    monkeypatch.delattr(pipeline.models.precision, "_trial_seconds")
    assert choose_precision("auto", model, IMAGES, CPU) is torch.float32


@pytest.mark.parametrize("trained_in", ["float32", "bfloat16", ""])
@pytest.mark.parametrize("able", [True, False])
def test_a_trained_network_is_run_in_what_it_was_trained_in_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, able: bool, trained_in: str
) -> None:
    monkeypatch.setattr(pipeline.models.precision, "_cpu_has_bfloat16", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    alike = able and trained_in == "bfloat16"
    assert inference_precision("auto", trained_in, CPU) == ("bfloat16" if alike else "float32")
    assert inference_precision("auto", trained_in, torch.device("cuda")) == ("bfloat16" if able else "float32")
    assert inference_precision("auto", trained_in, torch.device("mps")) == "float32"
    for asked in ("float32", "bfloat16"):
        assert inference_precision(asked, trained_in, CPU) == asked


def test_the_trial_leaves_the_network_as_it_was(model: Classifier) -> None:
    before = {name: tensor.clone() for name, tensor in model.train().state_dict().items()}
    assert min(pipeline.models.precision._trial_seconds(model, IMAGES).values()) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
