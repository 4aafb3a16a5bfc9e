"""A file or network that asks for memory that is not there is named, with how much it asks for."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.core.errors import ModelError, one_line_errors
from pipeline.core.memory import machine_bytes
from pipeline.core.shortage import fullest_folder, is_out_of_memory, memory_asked
from pipeline.doctor.findings import Findings
from pipeline.models import ClassifierSpec
from pipeline.signals.pieces import by_pieces

LARGE = 10**13


def asks(ask: Callable[[], object]) -> BaseException:
    """Returns the error of something that asks for too much."""
    with pytest.raises((MemoryError, RuntimeError)) as error:
        ask()
    return error.value


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: torch.empty(LARGE), "40,000 GB of memory at once"),
        (lambda: np.zeros(LARGE), "80,044 GB of memory at once"),
        (lambda: torch.empty(10**12, 10**12), "more memory than can be numbered"),
        (lambda: b"0" * 2**62, "memory"),
    ],
    ids=["torch", "numpy", "overflow", "python"],
)
def test_what_was_asked_for_is_read_from_any_library(ask: Callable[[], object], told: str) -> None:
    error = asks(ask)
    assert is_out_of_memory(error)
    assert memory_asked(error) == told


def test_other_errors_are_none_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))


def ask_in_a_room() -> object:
    return by_pieces(lambda some: torch.empty(LARGE), torch.zeros(2, 2))


def test_a_stage_and_the_doctor_name_the_file_that_asked(capsys: pytest.CaptureFixture[str]) -> None:
    told = "memory: none left: pipeline/signals/pieces.py (by_pieces) asked for 40,000 GB of memory at once"
    with pytest.raises(SystemExit), one_line_errors():
        ask_in_a_room()
    assert told in capsys.readouterr().err
    Findings().attempt(ask_in_a_room)
    assert capsys.readouterr().out.startswith(f"error    {told}")


def test_a_network_that_no_memory_holds_is_refused_before_it_is_built() -> None:
    assert machine_bytes() < 10**13
    spec = ClassifierSpec(
        "resnet_small", {"width": 65_536, "depth": 3}, num_classes=10, channels=1, mean=[0.0], std=[1.0]
    )
    with pytest.raises(ModelError, match=r"model 'resnet_small': its weights take 18,125 GB of memory.*width, depth"):
        spec.build()


def test_the_folder_with_the_least_room_is_named_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rooms = {"data": 12_000, ".": 10**9, "/small": 2 * 10**6}

    def usage(place: str) -> SimpleNamespace:
        if place not in rooms:
            raise FileNotFoundError(place)
        return SimpleNamespace(free=rooms[place])

    monkeypatch.setattr("shutil.disk_usage", usage)
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/small")
    assert fullest_folder() == f"{tmp_path}/data has 0.0 MB left"
    rooms["data"] = 10**9
    assert fullest_folder() == "/small has 2.0 MB left"
