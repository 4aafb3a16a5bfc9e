"""Faults that a user can fix end in one line and a status; bugs keep their traceback."""

import errno
import sys

import pytest

from pipeline.core.command import run_stage
from pipeline.core.errors import ConfigError, DataError, PipelineError, StoreError, listed, one_line_errors, suggest


def test_a_message_says_where_what_was_found_what_was_expected_and_what_to_do() -> None:
    error = StoreError("data/a.zarr", "version 2", expected="version 1", fix="run `dvc repro`")
    assert str(error) == "data/a.zarr: version 2; expected version 1; run `dvc repro`"


def test_a_message_is_one_line_even_when_it_quotes_a_library_that_writes_many() -> None:
    error = DataError("x", "bad\n  value:\n\t3", expected="a\nb", fix="c\r\nd")
    assert str(error) == "x: bad value: 3; expected a b; c d"


def test_parts_that_are_not_given_leave_no_trace() -> None:
    assert str(PipelineError("x", "gone", fix="look for it")) == "x: gone; look for it"
    assert str(PipelineError("x", "gone")) == "x: gone"


@pytest.mark.parametrize("kind", [PipelineError, ConfigError, StoreError])
def test_a_users_mistake_ends_with_status_1_and_one_line(
    kind: type[PipelineError], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise kind("params.yaml", "no entry\n'x'")
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: params.yaml: no entry 'x'\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_ends_with_status_1_and_one_line_that_names_the_file(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise OSError(number, "does not work", "work/part")
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("error: work/part: does not work; ")
    assert err.count("\n") == 1


def test_a_full_disk_is_told_in_one_line_though_the_system_names_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert err.count("\n") == 1


def test_too_little_memory_is_told_in_one_line_that_says_what_to_lower(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise MemoryError
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert "batch_size" in err
    assert err.count("\n") == 1


def test_an_interrupt_ends_with_status_130_and_says_that_work_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    err = capsys.readouterr().err
    assert "finished work is kept" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "bug",
    [KeyError("x"), ValueError("x"), AssertionError("x"), RuntimeError("x"), OSError("no number")],
    ids=lambda bug: type(bug).__name__,
)
def test_a_bug_keeps_its_traceback(bug: Exception) -> None:
    with pytest.raises(type(bug)) as raised, one_line_errors():
        raise bug
    assert raised.value is bug


def test_a_misspelt_name_gets_the_nearest_one_and_the_whole_list() -> None:
    assert suggest("fashion_mnits", ["digits", "fashion_mnist"]) == (
        "one of: digits, fashion_mnist (did you mean 'fashion_mnist'?)"
    )
    assert "did you mean" not in suggest("zebra", ["digits", "fashion_mnist"])
    many = suggest("name 771", [f"name {number}" for number in range(1234)])
    assert many.startswith("one of: name 0, name 1, name 2, ")
    assert many.endswith(", ... (1,234 in all) (did you mean 'name 771'?)")
    assert len(many) < 240


LONG = "x" * 5_000


@pytest.mark.parametrize(
    ("fault", "kept"),
    [
        (DataError(LONG, "gone", fix="look for it"), ["gone; look for it"]),
        (DataError("a/b.png", LONG, expected="less", fix="cut it"), ["a/b.png: x", "expected less; cut it"]),
        (DataError("a", "b", expected=suggest("name", [f"name {n}" for n in range(9999)])), ["(9,999 in all)"]),
        (DataError("a", "b", expected=listed([LONG, "y"])), ["expected xxx", "... (2 in all)"]),
        (DataError(LONG, LONG, expected=LONG, fix=LONG), ["; expected xxx", "x...x", "; xxx"]),
        (OSError(errno.ENOSPC, "full", LONG), ["error: xxx", "free space"]),
        (MemoryError(), ["memory: none left"]),
    ],
    ids=["place", "found", "names", "long name", "all", "disk", "memory"],
)
def test_no_line_is_longer_than_500_characters_of_which_a_path_takes_40(
    fault: BaseException, kept: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        raise fault
    line = capsys.readouterr().err
    assert all(part in line for part in kept), line
    assert sum(min(len(word), 40) + 1 for word in line.split()) <= 500
    assert max(map(len, line.split())) <= 160
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (ConfigError("params.yaml", "no such file"), 1, "error: params.yaml: no such file"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "finished work is kept"),
    ],
    ids=["mistake", "full disk", "interrupt"],
)
def test_a_stage_ends_with_the_status_and_the_line_of_its_fault(
    fault: BaseException,
    status: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def main() -> None:
        raise fault

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as stop:
        run_stage(main)
    assert stop.value.code == status
    err = capsys.readouterr().err
    assert told in err
    assert len(err.strip().splitlines()) == 1
