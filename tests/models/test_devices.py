"""Devices and number formats: what is asked for is given or refused; auto goes by rules."""

import pytest
import torch
from torch import nn

import pipeline.models.precision
from pipeline.core.errors import ConfigError
from pipeline.models.devices import choose_device
from pipeline.models.precision import choose_precision, inference_precision

CPU = torch.device("cpu")


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


@pytest.mark.parametrize("able", [True, False])
def test_a_number_format_that_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    monkeypatch.setattr(pipeline.models.precision, "_has_bfloat16", lambda device: able)
    assert choose_precision("float32", nn.Linear(1, 1), CPU) == "float32"
    assert choose_precision("bfloat16", nn.Linear(1, 1), CPU) == "bfloat16"


@pytest.mark.parametrize(
    ("device", "able", "parameters", "chosen"),
    [
        ("cpu", True, 53_362, "float32"),  # the largest student of params.yaml
        ("cpu", True, 353_386, "bfloat16"),  # its teacher
        ("cpu", False, 353_386, "float32"),
        ("cuda", True, 6_274, "bfloat16"),
        ("cuda", False, 353_386, "float32"),
    ],
)
def test_auto_goes_by_the_device_and_the_network_and_no_clock(
    monkeypatch: pytest.MonkeyPatch, device: str, able: bool, parameters: int, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able}, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    network = nn.Linear(parameters, 1, bias=False, device="meta")
    assert choose_precision("auto", network, torch.device(device)) == chosen


@pytest.mark.parametrize("trained_in", ["float32", "bfloat16", ""])
@pytest.mark.parametrize("able", [True, False])
def test_a_trained_network_is_run_in_what_it_was_trained_in_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, able: bool, trained_in: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able}, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    alike = able and trained_in == "bfloat16"
    assert inference_precision("auto", trained_in, CPU) == ("bfloat16" if alike else "float32")
    assert inference_precision("auto", trained_in, torch.device("cuda")) == ("bfloat16" if able else "float32")
    assert inference_precision("auto", trained_in, torch.device("mps")) == "float32"
    for asked in ("float32", "bfloat16"):
        assert inference_precision(asked, trained_in, CPU) == asked
