"""A log gets a line now and then with the time left, a terminal gets a bar, and short work says
nothing.
"""

import io
import sys
from types import SimpleNamespace

import pytest

import pipeline.core.progress as module
from pipeline.core.progress import progress


class Clock:
    """A clock that stands still until it is told to go on."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def test_short_work_says_nothing_in_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("dump_labels", 100, "label") as update:
        for _ in range(100):
            clock.seconds += 0.1
            update(1)
    assert capsys.readouterr() == ("", "")


def test_long_work_gets_a_whole_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("dump_labels", 10_000, "label") as update:
        for _ in range(1000):
            clock.seconds += 0.1
            update(10)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert 4 <= len(lines) <= 6
    assert all("\r" not in line for line in lines)


def test_a_line_says_how_much_is_done_and_how_long_the_rest_takes(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("dump_labels", 10_000, "label") as update:
        clock.seconds += 20
        update(2500)
    assert capsys.readouterr().err == "dump_labels: 2,500 of 10,000 labels (25%), about 60 s left\n"


def test_where_the_end_is_not_known_a_line_says_how_quick_it_goes(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("prepare", None, "image", done=1000) as update:
        clock.seconds += 20
        update(2500)
    assert capsys.readouterr().err == "prepare: 3,500 images, 125 a second\n"


def test_work_that_was_done_before_does_not_make_the_rest_look_quick(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("train", 1000, "step", done=800) as update:
        clock.seconds += 20
        update(100)
    assert capsys.readouterr().err == "train: 900 of 1,000 steps (90%), about 20 s left\n"


def test_work_without_units_and_updates_without_progress_do_no_harm(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("train", 0, "step") as update:
        clock.seconds += 20
        update(0)
    with progress("train", 10, "step") as update:
        clock.seconds += 20
        update(0)
    assert capsys.readouterr().err.startswith("train: 0 of 10 steps (0%)")


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("train", 1000, "step", done=500) as update:
        update(250)
        update(250)
    shown = terminal.getvalue()
    assert "train" in shown
    assert "500/1000" in shown
    assert shown.split("\r")[-1].strip() == ""
    assert shown.rstrip(" ").endswith("\r")
