"""A signal ends a stage with one line and the status that shells know, wherever it comes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faults import ended
from project import environment
from runs import STEPS, assert_same, fit_one, make_task, net, recipe

from pipeline.core.closure import TOP
from pipeline.core.errors import one_line_errors
from pipeline.core.stopping import leave_at_once
from pipeline.training.batches import Batch

LINES = {
    signal.SIGINT: "interrupted: finished work is kept, run the same command to go on",
    signal.SIGTERM: "interrupted (SIGTERM): finished work is kept, run the same command to go on",
    signal.SIGHUP: "interrupted (SIGHUP): finished work is kept, run the same command to go on",
}


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Lets signals through: a run of tests in the background or by `nohup` ignores some."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", LINES)
def test_a_signal_ends_a_stage_with_one_line(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)

    @one_line_errors()
    def stage() -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    with pytest.raises(SystemExit) as stop:
        stage()
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err == f"{LINES[number]}\n"
    assert signal.getsignal(number) == before


def test_what_is_ignored_from_the_start_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with one_line_errors():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_while_libraries_load_ends_a_stage_with_one_line() -> None:
    command = [sys.executable, "-m", "stages.train_teacher"]
    process = subprocess.Popen(command, cwd=TOP, env=environment(), stderr=subprocess.PIPE, text=True)
    libraries = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "libtorch_cpu" not in libraries.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert (process.returncode, told) == (130, f"{LINES[signal.SIGINT]}\n")


@pytest.mark.parametrize("number", LINES)
def test_before_a_stage_begins_a_signal_ends_it_at_once(number: signal.Signals, tmp_path: Path) -> None:
    said = tmp_path / "said"
    if (child := os.fork()) == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        leave_at_once()
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            os._exit(0)
    assert ended(child) == 128 + number
    assert said.read_text() == f"{LINES[number]}\n"


def test_a_training_that_is_asked_to_stop_leaves_a_checkpoint_of_the_step_that_it_was_at(tmp_path: Path) -> None:
    settings, stopped_at = recipe(checkpoint_seconds=1e9, accumulate_batches=2), STEPS + 1

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        for number, batch in enumerate(make_task().batches(epoch, start), start=epoch * STEPS + start):
            if number == stopped_at - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    torch.manual_seed(0)
    expected = fit_one(net(), make_task(), settings, tmp_path / "whole")
    torch.manual_seed(0)
    with pytest.raises(SystemExit) as stop, one_line_errors():
        fit_one(net(), make_task(batches=batches), settings, tmp_path / "stopped")
    assert stop.value.code == 143
    trained = []

    def rest(epoch: int, start: int) -> Iterator[Batch]:
        trained.append(epoch * STEPS + start)
        yield from make_task().batches(epoch, start)

    assert_same(fit_one(net(1), make_task(batches=rest), settings, tmp_path / "stopped"), expected)
    assert trained == [STEPS + 2]  # the update of two batches was finished first


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    def batches(epoch: int, start: int) -> Iterator[Batch]:
        for number in (signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        time.sleep(10)
        yield from make_task().batches(epoch, start)

    with pytest.raises(SystemExit) as stop, one_line_errors():
        fit_one(net(), make_task(batches=batches), recipe(), tmp_path)
    assert stop.value.code == 129
