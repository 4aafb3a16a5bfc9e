"""A failure because another process has ended the work is no error; every other one is."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.scratch import SharedScratch
from pipeline.sharing.claims import Claims
from pipeline.sharing.ending import claims_folder

WHERE = Path("pool/first.json")


def shared(tmp_path: Path) -> SharedScratch:
    return SharedScratch(tmp_path / "data" / "train", {}, tmp_path / "work", code=Path(__file__))


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "work").rglob("*") if "train.kept" not in path.parts)


def publish(scratch: SharedScratch) -> None:
    (scratch.output / "result").write_text("whole")
    scratch.publish()


@pytest.mark.parametrize("error", [FileNotFoundError(WHERE), FileExistsError(WHERE), PipelineError(WHERE, "is gone")])
def test_what_fails_for_want_of_cleared_files_is_no_error(tmp_path: Path, error: Exception) -> None:
    with shared(tmp_path) as late, claims_folder(late) as claimed, Claims(claimed).hold("piece"):
        with shared(tmp_path) as first, claims_folder(first):
            publish(first)
        late.output.mkdir(parents=True)  # as a late process does, which found no folder
        raise error
    assert (tmp_path / "data" / "train" / "result").read_text() == "whole"
    assert not [name for name in left(tmp_path) if name.startswith(("train-", "piece", "output"))]


def test_who_publishes_is_not_stopped_by_one_who_still_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rmdir

    def rmdir(path: Path, **settings: Any) -> None:
        if path.name == "pool":
            monkeypatch.undo()
            (late.folder / "pool" / "piece").write_text("just now")
        real(path, **settings)

    with shared(tmp_path) as late, claims_folder(late):
        (late.folder / "pool").mkdir()
        monkeypatch.setattr(os, "rmdir", rmdir)
        with shared(tmp_path) as first:
            publish(first)
        assert (late.folder / "pool" / "piece").exists()
    assert first.has_published
    assert not [name for name in left(tmp_path) if name.startswith(("train-", "pool", "piece"))]


@pytest.mark.parametrize("error", [FileNotFoundError(WHERE), PipelineError(WHERE, "is damaged"), ValueError("a bug")])
@pytest.mark.parametrize("publisher", ["nobody", "itself"])
def test_other_errors_are_errors(tmp_path: Path, error: Exception, publisher: str) -> None:
    with pytest.raises(type(error)), shared(tmp_path) as scratch, claims_folder(scratch):  # noqa: PT012
        if publisher == "itself":
            publish(scratch)
        raise error


def test_claims_stay_where_work_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), shared(tmp_path) as scratch, claims_folder(scratch) as claimed:  # noqa: PT012
        with Claims(claimed).hold("piece"):
            pass
        raise OSError("the disk is full")
    assert "piece.lock" in left(tmp_path)
