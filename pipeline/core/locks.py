"""Locks of files: one process at a time holds one, and who waits is told who does.

A folder of unfinished work is deleted here, where none of its locks is held.
"""

import errno
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import PipelineError
from pipeline.core.progress import say

DECIDES = "decides.json"  # in a folder of unfinished work, as long as that is whole
_PATIENCE_SECONDS = 1.0  # of silent waiting
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EIO}


class Lock:
    """A lock that the operating system lets go of when its owner dies.

    While it is held its file names the owner.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Without it filelock would use a file's mere existence, which outlives a killed owner.
        self._lock = FileLock(path, fallback_to_soft=False)

    def attempt(self, seconds: float = 0.0) -> bool:
        """Takes the lock if it is free, or becomes so in time; returns whether it did."""
        try:
            self._lock.acquire(timeout=seconds)
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            found = f"can't be locked here ({error.strerror})"
            expected = "a file system with POSIX locks: a local disk, NFS 4, Lustre with flock"
            raise PipelineError(self.path, found, expected=expected, fix="put this folder on one") from error
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError), self.path.open("r+") as file:  # a note for others, no more
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}")
            file.truncate()  # at last: ext4 flushes a file that was emptied first, which takes 3 ms
        return True

    def acquire(self, task: str) -> None:
        """Waits for the lock, and says so in a line where that takes longer than a moment."""
        if not self.attempt(_PATIENCE_SECONDS):
            say(f"{task}: another process is at work on this ({self.owner}); waiting until it ends")
            while not self.attempt(3600.0):
                pass

    @contextmanager
    def hold(self, task: str) -> Iterator[None]:
        """Waits for the lock as `acquire` does, and holds it."""
        self.acquire(task)
        try:
            yield
        finally:
            self.release()

    @property
    def owner(self) -> str:
        """The process that holds it, and since when."""
        try:
            return self.path.read_text(errors="replace").strip() or "unknown"
        except OSError:
            return "unknown"

    def release(self) -> None:
        """Lets it go, once for each time that it was taken."""
        self._lock.release()


def clear(work: Path) -> None:
    """Deletes a folder of unfinished work, with all that is in it.

    Raises PipelineError where a process holds a lock in it.
    """
    if not work.exists():
        return
    real = work.resolve()
    gone = real.with_name(f"{real.name}.{os.getpid()}.partial")
    with ExitStack() as held:
        for path in sorted(work.rglob("*.lock")):
            lock = Lock(path)
            if not lock.attempt():
                fix = "wait until it ends or stop it, then run the same command again"
                raise PipelineError(work, f"a process is at work in it: {path.name}, {lock.owner}", fix=fix)
            held.callback(lock.release)
        real.rename(gone)  # all of it at once: a stage that begins now finds nothing, not a part
    if work.is_symlink():
        real.mkdir()
    shutil.rmtree(gone)
