"""Scratch folders: unfinished work survives a kill, finished results survive DVC, and only one
process is at work.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.core import scratch as module
from pipeline.core.errors import PipelineError
from pipeline.core.scratch import Scratch, SharedScratch

TOP = Path(__file__).parents[2]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir())


def scratch(tmp_path: Path, **decides: Any) -> Scratch:
    return Scratch(tmp_path / "data" / "train", decides, tmp_path / "work", code=Path(__file__))


def interrupted(tmp_path: Path, **decides: Any) -> None:
    with contextlib.suppress(KeyboardInterrupt), scratch(tmp_path, **decides) as work:
        (work.output / "half").write_text("done so far")
        raise KeyboardInterrupt


def published(tmp_path: Path, content: str, **decides: Any) -> None:
    with scratch(tmp_path, **decides) as work:
        (work.output / "result").write_text(content)
        work.publish()


def test_work_survives_an_exception_and_is_found_again_with_the_same_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, seed=1, rate=0.1)
    capsys.readouterr()
    with scratch(tmp_path, rate=0.1, seed=1) as work:
        assert (work.output / "half").read_text() == "done so far"
        assert not work.done
    assert "going on with unfinished work" in capsys.readouterr().err
    assert not (tmp_path / "data" / "train").exists()


def test_changed_settings_start_anew_say_so_and_keep_the_other_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, seed=1)
    assert capsys.readouterr().err == ""
    with scratch(tmp_path, seed=2) as work:
        assert files(work.output) == []
    assert "starting again" in capsys.readouterr().err
    with scratch(tmp_path, seed=1) as work:
        assert files(work.output) == ["half"]


def test_changed_code_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path, seed=1)
    monkeypatch.setattr(module, "code_fingerprint", lambda script: "edited")
    with scratch(tmp_path, seed=1) as work:
        assert files(work.output) == []


def test_outputs_of_several_students_do_not_meet(tmp_path: Path) -> None:
    names = ["a", "b"]
    works = [
        Scratch(tmp_path / "data" / "train_student" / name, {}, tmp_path / "work", code=Path(__file__))
        for name in names
    ]
    with works[0] as first, works[1] as second:
        assert first.output != second.output


def test_publishing_replaces_the_old_output_whole_and_leaves_no_scratch(tmp_path: Path) -> None:
    out = tmp_path / "data" / "train"
    out.mkdir(parents=True)
    (out / "of_old").write_text("old")
    published(tmp_path, "new", seed=1)
    assert files(out) == ["result"]
    assert (out / "result").read_text() == "new"
    assert folders(tmp_path / "work") == ["train.kept"]


def test_a_finished_output_is_done_for_its_own_settings_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(tmp_path, "new", seed=1)
    with scratch(tmp_path, seed=1) as work:
        assert work.done
    assert "nothing to do" in capsys.readouterr().err
    with scratch(tmp_path, seed=2) as work:
        assert not work.done


@pytest.mark.parametrize("marker", ["", "[]", "{}", '{"fingerprint": "of another"}'])
def test_an_output_with_a_damaged_marker_is_not_done(marker: str, tmp_path: Path) -> None:
    published(tmp_path, "new", seed=1)
    (tmp_path / "work" / "train.done.json").write_text(marker)
    (tmp_path / "work" / "train.kept" / "kept.json").write_text(marker)
    with scratch(tmp_path, seed=1) as work:
        assert not work.done
        (work.output / "result").write_text("again")
        work.publish()
    with scratch(tmp_path, seed=1) as work:
        assert work.done


def test_an_output_that_was_changed_since_is_not_done(tmp_path: Path) -> None:
    published(tmp_path, "new", seed=1)
    (tmp_path / "data" / "train" / "result").write_text("of another version")
    with scratch(tmp_path, seed=1) as work:
        assert not work.done


def test_an_output_without_its_reports_is_not_done(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with Scratch(tmp_path / "data" / "train", {}, tmp_path / "work", [report], code=Path(__file__)) as work:
        (work.output / "result").write_text("new")
        work.publish()
        assert not work.done
        report.write_text("{}")
        assert work.done


def test_a_result_that_dvc_removed_comes_back_with_its_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, out = tmp_path / "reports" / "train.json", tmp_path / "data" / "train"

    def open_scratch(**decides: Any) -> Scratch:
        return Scratch(out, decides, tmp_path / "work", [report], code=Path(__file__))

    with open_scratch(seed=1) as work:
        (work.output / "deep").mkdir()
        (work.output / "deep" / "result").write_text("new")
        report.parent.mkdir()
        report.write_text("{}")
        work.publish()
    inode = (out / "deep" / "result").stat().st_ino
    shutil.rmtree(out)
    report.unlink()
    with open_scratch(seed=1) as work:
        assert work.done
    assert (out / "deep" / "result").stat().st_ino == inode  # no second copy
    assert report.read_text() == "{}"
    assert "nothing to do" in capsys.readouterr().err
    shutil.rmtree(out)
    with open_scratch(seed=2) as work:
        assert not work.done
    assert not out.exists()


@pytest.mark.parametrize("name", ["output/result", "kept.json"])
def test_a_kept_result_that_is_damaged_is_not_put_back(name: str, tmp_path: Path) -> None:
    published(tmp_path, "new", seed=1)
    kept = tmp_path / "work" / "train.kept" / name
    times = kept.stat()
    kept.write_bytes(b"x" * times.st_size)
    os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns))  # nor does a clock hide it
    shutil.rmtree(tmp_path / "data" / "train")
    with scratch(tmp_path, seed=1) as work:
        assert not work.done


def test_a_result_is_not_kept_where_its_fingerprint_does_not_cover_its_inputs(tmp_path: Path) -> None:
    for _ in range(2):
        out = tmp_path / "data" / "train"
        with Scratch(out, {}, tmp_path / "work", code=Path(__file__), keep=False) as work:
            assert not work.done
            work.publish()
        shutil.rmtree(out)


def test_an_output_is_outdated_where_it_is_missing_or_made_by_other_settings(tmp_path: Path) -> None:
    assert scratch(tmp_path, seed=1).outdated
    published(tmp_path, "new", seed=1)
    assert not scratch(tmp_path, seed=1).outdated
    assert scratch(tmp_path, seed=2).outdated


@pytest.mark.parametrize("marker", [None, "", "[]"])
def test_an_output_that_others_put_there_is_not_outdated(marker: str | None, tmp_path: Path) -> None:
    published(tmp_path, "new", seed=1)
    os.utime(tmp_path / "data" / "train" / "result", (1, 1))  # as DVC does when it puts an output back
    assert not scratch(tmp_path, seed=1).outdated
    (tmp_path / "work" / "train.done.json").unlink()
    if marker is not None:
        (tmp_path / "work" / "train.done.json").write_text(marker)
    assert not scratch(tmp_path, seed=2).outdated


def test_an_output_without_its_reports_is_outdated(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    published(tmp_path, "new")
    assert not Scratch(tmp_path / "data" / "train", {}, tmp_path / "work", [report], code=Path(__file__)).outdated
    report.unlink()
    assert Scratch(tmp_path / "data" / "train", {}, tmp_path / "work", [report], code=Path(__file__)).outdated


def test_an_attempt_opens_what_is_free_and_leaves_what_another_works_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scratch(tmp_path, seed=1) as work:
        (work.output / "half").write_text("done so far")
        with scratch(tmp_path, seed=1).attempt() as opened:
            assert not opened
    assert capsys.readouterr().err == ""
    free = scratch(tmp_path, seed=1)
    with free.attempt() as opened:
        assert opened
        assert files(free.output) == ["half"]
        with scratch(tmp_path, seed=1).attempt() as again:
            assert not again
    with scratch(tmp_path, seed=1).attempt() as opened:
        assert opened


def test_what_a_kill_left_half_written_is_not_published(tmp_path: Path) -> None:
    interrupted(tmp_path, seed=1)
    with scratch(tmp_path, seed=2) as work:
        (work.output / "weights.1.partial").write_text("half")
    with scratch(tmp_path, seed=2) as work:
        assert files(work.output) == []


@pytest.mark.parametrize("has_old_output", [False, True])
def test_a_work_folder_on_another_file_system_is_one_clear_line_and_loses_nothing(
    has_old_output: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_old_output:
        published(tmp_path, "old", seed=0)

    def cross(path: Path, to: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    with scratch(tmp_path, seed=1) as work:
        (work.output / "result").write_text("new")
        monkeypatch.setattr(Path, "rename", cross)
        with pytest.raises(PipelineError, match="one file system"):
            work.publish()
    monkeypatch.undo()
    assert (tmp_path / "data" / "train" / "result").exists() == has_old_output
    with scratch(tmp_path, seed=1) as work:
        assert (work.output / "result").read_text() == "new"
        work.publish()
    assert (tmp_path / "data" / "train" / "result").read_text() == "new"


def shared(tmp_path: Path, **decides: Any) -> Scratch:
    return SharedScratch(tmp_path / "data" / "train", decides, tmp_path / "work", code=Path(__file__))


def test_several_may_share_a_scratch_and_the_first_publishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with shared(tmp_path) as first, shared(tmp_path) as second:
        assert first.output == second.output
        (first.output / "of_first").write_text("1")
        (second.output / "of_second").write_text("2")
        assert not first.done
        first.publish()
        assert first.done
        assert second.done
        second.publish()
    assert files(tmp_path / "data" / "train") == ["of_first", "of_second"]
    assert folders(tmp_path / "work") == ["train.kept"]
    assert "another process" not in capsys.readouterr().err
    with shared(tmp_path) as third:
        assert third.done
    assert "nothing to do" in capsys.readouterr().err


def test_what_another_is_writing_in_a_shared_scratch_is_left_until_it_is_published(tmp_path: Path) -> None:
    with shared(tmp_path) as first:
        (first.output / "half.1.partial").write_text("half")
        with shared(tmp_path) as second:
            assert files(second.output) == ["half.1.partial"]
            (second.output / "whole").write_text("whole")
            second.publish()
    assert files(tmp_path / "data" / "train") == ["whole"]


def test_unfinished_shared_work_survives_an_exception(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), shared(tmp_path) as work:
        (work.output / "half").write_text("done so far")
        raise KeyboardInterrupt
    with shared(tmp_path) as work:
        assert files(work.output) == ["half"]


def test_how_many_threads_there_are_decides_about_work_that_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append((scratch(tmp_path, seed=1).folder, shared(tmp_path, seed=1).folder))
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]
    assert shared(tmp_path, seed=2).folder != found[0][1]


SHARER = """
import sys
from pathlib import Path
from pipeline.core import scratch as module

module.code_fingerprint = lambda script: "code"
top = Path(sys.argv[1])
with module.SharedScratch(top / "data" / "train", {}, top / "work", code=top) as work:
    (work.output / "of_child").write_text("child")
    print("at work", work.done, flush=True)
    sys.stdin.readline()
    print("done", work.done, flush=True)
"""


def test_two_processes_are_in_a_shared_scratch_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "code_fingerprint", lambda script: "code")
    command = [sys.executable, "-c", SHARER, str(tmp_path)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=TOP, **pipes) as other:
        try:
            assert other.stdout is not None
            assert other.stdin is not None
            assert other.stdout.readline() == "at work False\n"
            with shared(tmp_path) as work:  # while the other is in it
                (work.output / "of_parent").write_text("parent")
                work.publish()
            other.stdin.write("go on\n")
            other.stdin.flush()
            assert other.stdout.readline() == "done True\n"
        finally:
            other.kill()
    assert files(tmp_path / "data" / "train") == ["of_child", "of_parent"]


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("steps", range(6))
def test_a_kill_while_publishing_loses_nothing_and_leaves_one_whole_output(
    steps: int, is_shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills the process before each step in turn: the marker, the old output's way out, the new
    one's way in, its second name, the note of that name, the clean-up.
    """
    published(tmp_path, "old", seed=0)
    make: Any = shared if is_shared else scratch
    left = iter(range(steps))

    def until_killed(real: Any) -> Any:
        def step(*arguments: Any, **named: Any) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return step

    rmtree = module.shutil.rmtree
    with contextlib.suppress(KeyboardInterrupt), make(tmp_path, seed=1) as work:
        (work.output / "result").write_text("new")
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_json", until_killed(module.write_json))
            patch.setattr(Path, "rename", until_killed(Path.rename))
            ends = until_killed(rmtree)
            patch.setattr(
                module.shutil,
                "rmtree",
                lambda path, **how: ends(path) if path == work.folder else rmtree(path, **how),
            )
            work.publish()
    assert (tmp_path / "data" / "train").exists() == (steps != 2)
    with make(tmp_path, seed=1) as work:
        assert work.done == (steps >= 3)
        if not work.done:
            assert (work.output / "result").read_text() == "new"
            work.publish()
    assert (tmp_path / "data" / "train" / "result").read_text() == "new"
    assert folders(tmp_path / "work") == ["train.kept"]


CHILD = """
import sys
from pathlib import Path
import torch
from pipeline.core import scratch as module

torch.set_num_threads(1)
module.code_fingerprint = lambda script: "code"
top = Path(sys.argv[1])
for seed in (1, 2):
    with module.Scratch(top / "data" / "train", {"seed": seed}, top / "work", code=top) as work:
        if not work.done:
            (work.output / "half").write_text("done so far")
        print("done" if work.done else "at work", flush=True)
        if not work.done:
            sys.stdin.read()
"""


def test_the_lock_holds_off_another_process_until_work_is_published_and_dies_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "code_fingerprint", lambda script: "code")
    other = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stderr is not None
    with other:
        try:
            with scratch(tmp_path, seed=1) as work:
                (work.output / "result").write_text("new")
                assert "another process is at work" in other.stderr.readline()
                time.sleep(0.2)
                assert other.poll() is None
                assert files(work.output) == ["result"]
                work.publish()
            assert other.stdout.readline() == "done\n"
            assert (tmp_path / "data" / "train" / "result").read_text() == "new"
            assert other.stdout.readline() == "at work\n"
        finally:
            other.kill()
            other.communicate()
    found = []

    def go_on() -> None:
        with scratch(tmp_path, seed=2) as work:
            found.extend(files(work.output))

    thread = threading.Thread(target=go_on, daemon=True)  # a lock that outlives its owner must not hang the tests
    thread.start()
    thread.join(10)
    assert found == ["half"]
