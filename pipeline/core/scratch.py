"""Scratch folders: unfinished work that survives a kill, finished results that survive DVC.

DVC deletes a stage's output before it runs the stage, so a long stage works in a `Scratch` and
renames it to its output at the end. The scratch's name holds a fingerprint of everything that
decides the result: a killed stage finds its own work again, changed settings start another one.
"""

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from uuid import uuid4

import torch

from pipeline.core.closure import code_fingerprint
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_fingerprint, fingerprint, sync_folder, write_bytes, write_json
from pipeline.core.locks import DECIDES, Lock
from pipeline.core.progress import say
from pipeline.core.threads import map_in_order, usable_cores
from pipeline.core.trees import drop_tree, link_tree

WORK = Path("work")


class Scratch:
    """A stage's unfinished output, locked by the process that works on it.

    `folder` outlives a killed process; `output` inside it becomes `out` at `publish`. `done` says
    that `out` already holds just this result (another process finished it), so that there is
    nothing left to do; `has_published`, that this one did.

    DVC removes a stage's output before it runs the stage again, even where nothing that decides the
    result has changed. So a published result keeps a second name for each of its files (a hard
    link) in `kept`, and is put back from there.

    Args:
        decides: Everything that decides the result, the code and torch's version apart.
        reports: Files beside `out` that belong to the result.
        code: The file whose import closure is the code that decides the result.
        keep: False where `decides` does not cover all inputs, so that the same fingerprint may want
            another result.
    """

    _shared: ClassVar[bool] = False

    def __init__(
        self,
        out: Path,
        decides: Mapping[str, Any],
        work: Path = WORK,
        reports: Sequence[Path] = (),
        *,
        code: Path,
        keep: bool = True,
    ) -> None:
        self.out = out
        self._keeps = keep
        self.name = _name(out)
        decides = with_code(decides, code)
        if not self._shared:  # what several processes make must not depend on how many threads each has
            decides["threads"] = torch.get_num_threads()
        self.fingerprint = fingerprint(decides)
        self.folder = work / f"{self.name}-{self.fingerprint[:16]}"
        self.output = self.folder / "output"
        self._whole = self.folder / DECIDES
        self.decides = decides
        self.has_published = False
        self._reports = reports
        self._marker = _marker(out, work)
        self.kept = kept_output(out, work).parent
        self._lock = Lock(work / f"{self.name}.lock")
        # So that `work` is not deleted while one of several processes is in it.
        self._presence = Lock(work / f"{self.name}.{uuid4().hex}.lock")

    @property
    def done(self) -> bool:
        """Whether `out` is the finished result of these very settings, untouched since, and its
        reports are there.
        """
        try:
            marker, wanted = self._read_marker(), self._done_marker(self.out)
            return self.out.exists() and marker == {**marker, **wanted} and self._has_reports
        except OSError:
            return False

    @property
    def outdated(self) -> bool:
        """Whether `out` or one of its reports is missing, or `out` was made by other settings.

        Weaker than not `done`: who asks whether it is worth to make `out` as well should not make
        it again because DVC put the files back with other times, or because they were made on
        another machine.
        """
        made_by = self._read_marker().get("fingerprint", self.fingerprint)
        return not self.out.exists() or not self._has_reports or made_by != self.fingerprint

    @property
    def _has_reports(self) -> bool:
        return all(path.exists() for path in self._reports)

    def _read_marker(self) -> dict[str, Any]:
        return _read_dict(self._marker)

    def _done_marker(self, tree: Path) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint, "files": _listed(tree)}

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Opens it as `with` does, unless another process is at work on it; whether it did."""
        if not self._lock.attempt():
            yield False
            return
        try:
            with self:
                yield True
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(self.name)
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        if self._shared:
            self._presence.acquire(self.name)
            self._lock.release()
        return self

    def _open(self) -> None:
        if self.done or self._put_back():
            again = f"; nothing to do (delete it and {self.kept} to start over)"
            say(f"{self.out} is already there, finished and for these settings{again}")
            shutil.rmtree(self.folder, ignore_errors=True)  # there if the publisher was killed before it had gone
            return
        if self.folder.exists() and not self._is_whole:
            say(f"{self.name}: what is left in {self.folder} was deleted in part; starting again")
            shutil.rmtree(self.folder)
        others = [path for path in self.folder.parent.glob(f"{self.name}-{'?' * 16}") if path != self.folder]
        if self.folder.exists():
            if not self._shared:
                self.sweep()
            say(f"{self.name}: going on with unfinished work in {self.folder}")
        elif others:
            names = ", ".join(map(str, others))
            say(f"{self.name}: settings or inputs changed, starting again; unfinished work of others stays in {names}")
        self.output.mkdir(parents=True, exist_ok=True)
        write_json(self._whole, self.decides)

    @property
    def _is_whole(self) -> bool:
        """Whether nothing has been deleted in `folder`: who deletes a folder with all that is in it
        also deletes the file that was there first.
        """
        return self._whole.exists()

    def publish(self) -> None:
        """Gives `output` its final name, in place of what stood there."""
        if not self._shared:
            self._publish()
            return
        with self._lock.hold(self.name):
            if not self.done:
                self.sweep()
                self._publish()

    def sweep(self) -> None:
        """Removes what was being written when a process was killed; nobody may be writing to
        `output`.
        """
        with self._lock.hold(self.name):
            for partial in self.folder.rglob("*.partial"):
                partial.unlink()

    def _publish(self) -> None:
        if not self._is_whole:
            raise self._deleted()
        self.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "replaced", ignore_errors=True)
        try:
            # First, or a process that is killed just after the last rename would have made `output`
            # for nothing.
            write_json(self._marker, {**self._done_marker(self.output), "decides": self.decides})
            if self.out.exists():
                self.out.rename(self.folder / "replaced")
            self.output.rename(self.out)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            fix = "keep work/ and data/ on one file system"
            raise PipelineError(self.out, "can't be put in place from another file system", fix=fix) from error
        sync_folder(self.out.parent)
        if self._keeps:
            self._keep()
        self.has_published = True
        self._whole.unlink()  # first: others at work here see by it that they come late
        drop_tree(self.folder)  # to which such a one may just have added

    def _keep(self) -> None:
        """Gives the result's files second names; what was kept before goes. Nothing is kept without
        hard links.
        """
        marker = self.kept / "kept.json"
        marker.unlink(missing_ok=True)  # first: what it describes is about to be replaced
        if not self._has_reports or not link_tree(self.out, self.kept / "output"):
            return
        for number, path in enumerate(self._reports):
            write_bytes(self.kept / f"report{number}", path.read_bytes())
        digests = _file_digests(self.kept)
        write_json(marker, {"decides": self.decides, "fingerprint": self.fingerprint, "digests": digests})

    def _put_back(self) -> bool:
        """Gives the kept files their names again, if they are the wanted result and undamaged;
        returns whether so.
        """
        kept = self.read_kept()
        if kept.get("fingerprint") != self.fingerprint or kept.get("digests") != _file_digests(self.kept):
            return False
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if not link_tree(self.kept / "output", self.out):
            return False
        for number, path in enumerate(self._reports):
            write_bytes(path, (self.kept / f"report{number}").read_bytes())
        write_json(self._marker, {**self._done_marker(self.out), "decides": self.decides})
        return True

    def read_kept(self) -> dict[str, Any]:
        """Returns what `kept` holds: `decides`, `fingerprint` and `digests`; nothing where there is
        no kept result.
        """
        return _read_dict(self.kept / "kept.json")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shared:
            self._presence.release()
            self._presence.path.unlink(missing_ok=True)
        else:
            self._lock.release()
        if isinstance(error, Exception) and not self._is_whole and not self.done:
            raise self._deleted() from error

    def _deleted(self) -> PipelineError:
        return PipelineError(self.folder, "was deleted while this was at work in it", fix="run the same command again")


def with_code(decides: Mapping[str, Any], code: Path) -> dict[str, Any]:
    """Returns everything that decides a result: with the import closure of a file, and torch's
    version.
    """
    return {**decides, "code": code_fingerprint(code), "torch": torch.__version__}


def decided_by(out: Path, work: Path) -> dict[str, Any] | None:
    """Returns everything that decided a finished result, as it was recorded; None where `out` has
    no record, or the record is of other files (their times apart, which a copy changes).
    """
    marker = _read_dict(_marker(out, work))
    if [file[:2] for file in marker.get("files", [])] != [file[:2] for file in _listed(out)]:
        return None
    decides: dict[str, Any] | None = marker.get("decides")
    return decides


def kept_output(out: Path, work: Path) -> Path:
    """Returns where the files of a finished output keep their second names."""
    return work / f"{_name(out)}.kept" / "output"


def _name(out: Path) -> str:
    return "-".join(out.parts[-2:]).removeprefix("data-")


def _marker(out: Path, work: Path) -> Path:
    return work / f"{_name(out)}.done.json"


def _listed(tree: Path) -> list[list[Any]]:
    """Returns name, size and time of each file below a folder."""
    files = [(str(path.relative_to(tree)), path.stat()) for path in sorted(tree.rglob("*")) if path.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files]


class SharedScratch(Scratch):
    """A scratch folder for several processes at a time, each of which does another part.

    Any of them may publish; the first one does.
    """

    _shared = True


def _read_dict(path: Path) -> dict[str, Any]:
    """Returns a JSON object of this module's own; an empty one where the file is missing or
    damaged.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _file_digests(tree: Path) -> dict[str, str]:
    """Returns the digest of every file below a folder, by its path; the folder's own description is
    left out.
    """
    paths = sorted(path for path in tree.rglob("*") if path.is_file() and path.name != "kept.json")
    digests = map_in_order(file_fingerprint, paths, usable_cores())  # some GB may take seconds
    return {str(path.relative_to(tree)): digest for path, digest in zip(paths, digests, strict=True)}
