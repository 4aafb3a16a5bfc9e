"""Locks: who waits is told for whom, and a disk without locks is one line."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core import locks
from pipeline.core import scratch as module
from pipeline.core.errors import PipelineError, one_line_errors
from pipeline.core.locks import Lock, clear
from pipeline.core.scratch import Scratch, SharedScratch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "code_fingerprint", lambda script: "code")
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 0.0)


def scratch(folder: Path, kind: type[Scratch] = Scratch) -> Scratch:
    return kind(folder / "data/train", {"seed": 1}, folder / "work", code=folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def line_of(work: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """Returns the one line with which a command ends."""
    with pytest.raises(SystemExit) as stop, one_line_errors():
        work()
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EIO"])
@pytest.mark.parametrize("kind", [Scratch, SharedScratch])
def test_a_disk_without_locks_is_one_line(
    code: str, kind: type[Scratch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr("fcntl.flock", fail)
    line = line_of(lambda: scratch(tmp_path, kind).__enter__(), capsys)
    assert f"{tmp_path}/work/train.lock: can't be locked here" in line
    assert "a local disk, NFS 4" in line


@pytest.mark.parametrize("top", ["work", "data"])
@pytest.mark.parametrize("spoil", [lambda path: path.symlink_to("nowhere"), lambda path: path.write_text("a file")])
def test_a_link_to_nowhere_or_a_file_in_place_of_a_folder_is_one_line(
    top: str, spoil: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tmp_path / top)

    def work() -> None:
        with scratch(tmp_path) as opened:
            opened.publish()

    assert f"{tmp_path}/{top}" in line_of(work, capsys)


def test_who_waits_is_told_for_whom_and_since_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        holder.release()

    monkeypatch.setattr(locks, "say", say)
    for kind in (Scratch, SharedScratch):
        (tmp_path / "work").mkdir(exist_ok=True)
        holder = Lock(tmp_path / "work/train.lock")
        assert holder.attempt()
        with scratch(tmp_path, kind):
            pass
    assert len(said) == 2
    for line in said:
        assert re.search(rf"at work on this \(process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d .*\)", line)


@pytest.mark.parametrize("kind", [Scratch, SharedScratch])
def test_clean_leaves_work_alone_while_a_stage_is_in_it(kind: type[Scratch], tmp_path: Path) -> None:
    with scratch(tmp_path, kind) as opened:
        (opened.output / "half").write_text("so far")
        with pytest.raises(PipelineError, match=f"at work in it.*process {os.getpid()}.*wait until it ends"):
            clear(tmp_path / "work")
        assert (opened.output / "half").read_text() == "so far"
    clear(tmp_path / "work")
    assert names(tmp_path) == []
    clear(tmp_path / "work")


def test_clean_leaves_a_link_that_leads_somewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/train.kept").mkdir(parents=True)
    (tmp_path / "work").symlink_to("elsewhere")
    clear(tmp_path / "work")
    assert names(tmp_path / "work") == []
    assert names(tmp_path) == ["elsewhere", "work"]


@pytest.mark.parametrize("kind", [Scratch, SharedScratch])
@pytest.mark.parametrize("ends", ["publishes", "fails"])
def test_work_that_is_deleted_under_a_stage_is_one_line_and_the_next_run_starts_again(
    kind: type[Scratch], ends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with scratch(tmp_path, kind) as opened:
            shutil.rmtree(tmp_path / "work")
            opened.output.mkdir(parents=True)
            (opened.output / "half").write_text("written after that")
            if ends == "fails":
                (opened.folder / "records").read_text()
            opened.publish()

    line = line_of(work, capsys)
    assert re.search(r"work/train-\w+: was deleted while this was at work in it; run the same command again", line)
    assert not (tmp_path / "data/train").exists()
    with scratch(tmp_path, kind) as again:
        assert names(again.output) == []
        (again.output / "whole").write_text("whole")
        again.publish()
    assert names(tmp_path / "data/train") == ["whole"]


def test_a_lock_names_its_owner_and_is_no_leftover_of_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text("process 1 on another, since long ago")
    lock = Lock(path)
    assert lock.attempt()
    assert f"process {os.getpid()} on " in lock.owner
    assert not Lock(path).attempt()
    lock.release()
    assert Lock(path).attempt()
