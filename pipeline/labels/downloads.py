"""A file fetched from a server: tried again where the connection fails, given up where it comes too
slowly or is larger than it may be.
"""

import time
from collections.abc import Callable
from threading import Thread
from typing import IO

from pipeline.core.progress import say
from pipeline.labels.answers import Server, ServerError
from pipeline.labels.mirrored import FetchError

TRIES = 4
FIRST_WAIT_S = 0.5  # before the second try; doubled before each further one
PATIENCE_S = 60.0  # until a file must have begun to come
LEAST_BYTES_PER_S = 4096  # from then on, on average; so a file of n bytes takes a minute and n / 4096 s at most


class Download:
    """A file on its way from a server to `out`, which has no more than `most_bytes`.

    Raises FetchError, in one line, for a file that is not there, refused access, and a file that
    does not come whole in `TRIES` tries, in its time and in its size.
    """

    def __init__(
        self,
        server: Server,
        url: str,
        name: str,
        out: IO[bytes],
        most_bytes: int,
        on_bytes: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._server, self._name, self._out, self._most_bytes = server, name, out, most_bytes
        self._on_bytes = on_bytes
        self._where = f"{url}/{name}"
        self._begun, self._received = time.monotonic(), 0
        self._fault: BaseException | None = None

    def run(self, missing: str, fix: str) -> int:
        """Returns the number of bytes; `missing` and `fix` are what to say where there is no such
        file.
        """
        # By a thread of its own, which is left behind where it hangs: in a look-up of the host's
        # name, or while a server sends the first line of its answer letter by letter.
        thread = Thread(target=self._run, args=(missing, fix), daemon=True)
        thread.start()
        while thread.is_alive():
            left = self._begun + PATIENCE_S + self._received / LEAST_BYTES_PER_S - time.monotonic()
            if left <= 0:
                found = f"{self._received:,} bytes came in {time.monotonic() - self._begun:.0f} s, which is too slow"
                raise FetchError(self._where, found, fix="look after the connection or the server")
            thread.join(left)
        if self._fault:
            raise self._fault
        return self._received

    def _run(self, missing: str, fix: str) -> None:
        try:
            self._try_often(missing, fix)
        except BaseException as fault:  # which the caller's thread raises
            self._fault = fault

    def _try_often(self, missing: str, fix: str) -> None:
        for tried in range(1, TRIES + 1):
            try:
                return self._try()
            except ServerError as error:
                reason = error.reason
                if error.kind == "missing":
                    raise FetchError(self._where, missing, fix=fix) from None
                if error.kind == "refused":
                    raise self._refused(reason) from None
                if error.kind == "lasting":
                    raise FetchError(self._where, f"could not be fetched ({reason})", fix="fix the address") from None
            if tried < TRIES:
                wait = FIRST_WAIT_S * 2 ** (tried - 1)
                say(f"{self._where}: {reason}; trying again in {wait:g} s ({tried + 1} of {TRIES})")
                time.sleep(wait)
        fix = "look after the connection or the server, then run the same command to go on"
        raise FetchError(self._where, f"could not be fetched after {TRIES} tries ({reason})", fix=fix)

    def _try(self) -> None:
        self._out.seek(0)
        self._out.truncate()
        self._begun, self._received = time.monotonic(), 0
        answer = self._server.get(self._name)
        try:
            self._need_small(answer.size or 0)
            for piece in answer.pieces:
                self._need_small(self._received + len(piece))
                self._out.write(piece)
                self._received += len(piece)
                self._on_bytes(len(piece))
        finally:
            answer.close()
        if answer.size not in (None, self._received):
            raise ServerError("passing", f"{self._received} bytes came instead of {answer.size}")

    def _need_small(self, size: int) -> None:
        if size > self._most_bytes:
            found = f"has {size:,} bytes or more, of at most {self._most_bytes:,} that its store lets expect"
            raise FetchError(self._where, found, fix="put a whole store there")

    def _refused(self, reason: str) -> FetchError:
        if keys := self._server.needed_keys:
            fix = f"set {keys}"
            return FetchError(self._where, f"access refused ({reason}); asked without credentials", fix=fix)
        fix = "fix the credentials, or the rights on the server"
        return FetchError(self._where, f"access refused ({reason})", fix=fix)
