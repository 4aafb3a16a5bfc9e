"""Workers of a dump as forked processes (a fresh interpreter takes seconds to import torch), to be
killed, stopped and starved; each writes a line for every block that it has the teacher compute.
"""

import ctypes
import errno
import io
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from conftest import make_split
from project import files_of, small_params, write_params
from stores import ANCHORED

from pipeline.core import scratch
from pipeline.core.errors import one_line_errors
from pipeline.data.manifest import DatasetManifest
from pipeline.labelling import dump, repair
from pipeline.models.saved import ModelMeta, write_model
from pipeline.preparation.write import write_dataset
from stages import dump_labels

OnBlock = Callable[[int], object]
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_COUNTS = {"train": 240, "val": 24, "test": 24}


def make_teacher(folder: Path, encodings: Sequence[str] = ("dense8", "top2"), **dump_settings: Any) -> Path:
    """Returns a folder with params, data and a teacher that nobody trained but that is sure of
    itself; nothing is dumped yet.
    """
    params = small_params()
    params["dump_labels"] |= dump_settings
    rows = params["encodings"] | {"anchored": ANCHORED, "vectors": {"kind": "vector_int8"}}
    params["encodings"] = {name: rows[name] for name in encodings}
    write_params(folder, params)
    splits = {name: make_split(count, classes=6, seed=seed) for seed, (name, count) in enumerate(_COUNTS.items())}
    data = write_dataset(folder / "data/prepare", "made up", tuple("abcdef"), splits)
    write_teacher(folder / "data/train_teacher", data, seed=0)
    return folder


def write_teacher(folder: Path, data: DatasetManifest, seed: int) -> None:
    meta = ModelMeta.untrained("convnet_small", {"width": 4, "depth": 1}, data, {})
    weights = {name: tensor * (30 if tensor.ndim == 2 else 1) for name, tensor in meta.build(seed).state_dict().items()}
    write_model(folder, meta.trained("float32", {"accuracy": 0.5, "calibration_temperature": 1.0}), weights)


class Site:
    """A place where workers dump: their own `out` and `work`, a teacher and data that others use,
    too.
    """

    def __init__(self, made: Path, folder: Path) -> None:
        self.made = made
        self.out = folder / "data/dump_labels"
        self.work = folder / "work"
        self.said = folder / "said.txt"
        self._computed = folder / "computed.txt"
        folder.mkdir(parents=True, exist_ok=True)

    def dump(self, worker: str | None = None, on_block: OnBlock = lambda count: None) -> None:
        """Runs the stage in this process."""
        data = self.made / "data"
        with self.counting(on_block):
            dump_labels.main(
                self.made / "params.yaml", data / "prepare", data / "train_teacher", self.out, self.work, worker
            )

    def start(
        self,
        worker: str | None = None,
        on_block: OnBlock = lambda count: None,
        first: Callable[[], object] = lambda: None,
    ) -> int:
        """Starts the stage in a process of its own, `first` before it; returns the process's id."""

        def work() -> None:
            first()
            with one_line_errors():
                self.dump(worker, on_block)

        return fork(work, self.said)

    def run(self, on_block: OnBlock = lambda count: None, first: Callable[[], object] = lambda: None) -> int:
        """Starts the same and waits for its end; returns its exit status, or minus the signal that
        ended it.
        """
        return ended(self.start(None, on_block, first))

    def computed(self) -> list[str]:
        """Returns the blocks that a teacher began with, in that order."""
        return self._computed.read_text().splitlines() if self._computed.exists() else []

    def written(self) -> dict[str, bytes]:
        """Returns the files of unfinished stores, by their paths."""
        return {name: data for folder in self.work.glob("*/output") for name, data in files_of(folder).items()}

    def forget(self) -> None:
        """Deletes everything except the teacher."""
        for path in (self.out, self.work):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self._computed, self.said):
            path.unlink(missing_ok=True)

    @contextmanager
    def counting(self, on_block: OnBlock = lambda count: None) -> Iterator[None]:
        """Adds a line to a file for each block that the teacher is asked for, before the answer.

        `on_block` is called next, with the number of blocks so far in this process.
        """
        real = dump.plan_view
        count = 0

        def plan_view(split: Any, spec: Any, view: int, *, rows: Any, row_order: Any) -> Any:
            nonlocal count
            rows = np.asarray(rows)
            if np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):  # else a pilot
                handle = os.open(self._computed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.write(handle, f"{view}-{rows[0]}\n".encode())
                os.close(handle)
                count += 1
                on_block(count)
            return real(split, spec, view, rows=rows, row_order=row_order)

        dump.plan_view = repair.plan_view = plan_view
        try:
            yield
        finally:
            dump.plan_view = repair.plan_view = real


def fork(work: Callable[[], object], said: Path) -> int:
    """Does `work` in a child process, whose output goes to a file; returns the child's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that the child will not have
        process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # which who runs tests in the background may have ignored
        sys.stdout = sys.stderr = said.open("a", buffering=1)
        scratch.code_fingerprint = lambda script: "this code"  # saves a tenth of a second each
        work()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(process: int) -> int:
    """Waits for a child; returns its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(step: int, log: Path | None = None) -> None:
    """Arranges for SIGKILL just before a step that changes the disk for good, counted from 0."""
    count = 0

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            nonlocal count
            if log:
                with log.open("a") as file:
                    file.write(f"{name} {' '.join(map(str, arguments))}\n")
            if count == step:
                die()
            count += 1
            return real(*arguments, **settings)

        return call

    for name in ("fsync", "replace", "rename", "link", "unlink", "rmdir"):
        setattr(os, name, watched(name, getattr(os, name)))


class SmallDisk:
    """A disk that takes so many bytes and then reports that it is full; it keeps what fits of the
    last write.
    """

    def __init__(self, num_bytes: int) -> None:
        self.left = num_bytes

    def use(self) -> None:
        """Sends all that this process writes from now on to this disk."""
        real, disk = io.open, self

        class Limited(io.FileIO):
            def write(self, data: Any) -> int:
                content = bytes(data)
                fits = content[: disk.left]
                disk.left -= len(fits)
                super().write(fits)
                if len(fits) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return len(fits)

        def limited(file: Any, mode: str = "r", *others: Any, **settings: Any) -> Any:
            return io.BufferedWriter(Limited(file, "wb")) if mode == "wb" else real(file, mode, *others, **settings)

        io.open = limited  # pathlib calls it by this name


def own_disk(folder: Path, size: str) -> None:
    """Puts a real disk of a size ("300k") at a folder, for this process alone; raises OSError where
    that is forbidden.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    resize_disk(folder, size, 0)


def resize_disk(folder: Path, size: str, flags: int = 32) -> None:
    """Gives the disk of `own_disk` another size."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")
