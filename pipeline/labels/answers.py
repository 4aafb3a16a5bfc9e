"""The answers of servers: files as they come, and why one does not."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

CONNECT_S = 5.0
SILENCE_S = 20.0  # without one byte, after which a connection counts as dropped
PIECE_BYTES = 64 * 1024
AT_ONCE = 16  # requests beside each other
UNTRUSTED = "the server's certificate is not trusted"


class ServerError(Exception):
    """A file that did not come, and why, in a few words.

    `kind` is `missing`, `refused` (no right to it), `lasting` (asking again is no use) or
    `passing`.
    """

    def __init__(self, kind: Literal["missing", "refused", "lasting", "passing"], reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Answer(NamedTuple):
    """A file as it comes: its size where the server states it, its pieces, and what ends it, after
    all of them or before.
    """

    size: int | None
    pieces: Iterator[bytes]
    close: Callable[[], object]


class Server(Protocol):
    """A place that files come from by name."""

    #: The variables to set where it is asked without credentials and may want some, else empty.
    needed_keys: str

    def get(self, name: str) -> Answer:
        """Asks for a file; this and its pieces raise ServerError."""


class WritableServer(Server, Protocol):
    """A place that files can be put to, as well; each is there whole or not at all."""

    def put(self, name: str, content: bytes, *, new: bool) -> bool:
        """Puts a file there; returns False where it must be `new` and is there already."""

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file; None where it is not there."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the bytes of each file in a folder and those below, by its name."""

    def delete(self, names: Sequence[str]) -> None:
        """Deletes files, of which some may be gone already."""


def refusal(status: int, reason: str) -> ServerError:
    """Returns the error for an answer that is no file."""
    if status == 404:
        return ServerError("missing", reason)
    if status in (401, 403):
        return ServerError("refused", reason)
    # The server understood, and will answer the same again. 408 and 429 are for later (S3's 408 is
    # a 400 of that name); 501 is not, nor is a full disk, 507.
    later = status in (408, 429) or "RequestTimeout" in reason
    lasts = status in (501, 507) or (status < 500 and not later)
    return ServerError("lasting" if lasts else "passing", reason)
