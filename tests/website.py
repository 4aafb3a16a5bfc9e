"""A static web server on loopback that counts what it is asked for, and fails as it is told."""

import gzip
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import unquote


class Website:
    """A server of the files of a folder; it lists none of its folders.

    Attributes:
        asked: Requests by file, relative to the folder.
        status: An answer to give instead of a file.
        cuts: How many requests for blocks are still to be cut off, after `cut_at` (0 to 1) of the
            content.
        silent_s: Seconds to wait before an answer.
        form: How a file is sent: with its length, without, in pieces of unknown number, or packed.
        drip_s: Seconds to wait between two bytes of an answer, those of its head too.
        endless: Whether files are followed by zeros without end.
        authorizations: The `Authorization` headers of the requests.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.status: int | None = None
        self.cuts, self.cut_at = 0, 0.5
        self.silent_s = self.drip_s = 0.0
        self.form: Literal["length", "no length", "chunked", "gzip"] = "length"
        self.endless = False
        self.authorizations: set[str | None] = set()
        self._lock = threading.Lock()
        site = self

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: SimpleHTTPRequestHandler) -> None:
        name = unquote(request.path).lstrip("/")
        with self._lock:
            self.asked[name] += 1
            self.authorizations.add(request.headers["Authorization"])
            cut = "/c/" in name and self.cuts > 0
            self.cuts -= cut
        time.sleep(self.silent_s)
        file = self.folder / name
        status = self.status or (200 if file.is_file() else 404)
        content = file.read_bytes() if status == 200 else b"sorry"
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
            self._send(request, status, content, cut)

    def _send(self, request: SimpleHTTPRequestHandler, status: int, content: bytes, cut: bool) -> None:
        request.close_connection = True
        form = "no length" if self.endless else self.form
        content = gzip.compress(content) if form == "gzip" else content
        headers = {
            "length": {"Content-Length": str(len(content))},
            "gzip": {"Content-Length": str(len(content)), "Content-Encoding": "gzip"},
            "chunked": {"Transfer-Encoding": "chunked"},
        }.get(form, {})
        head = [f"HTTP/1.1 {status} {request.responses[status][0]}", "Connection: close"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        body = content[: int(len(content) * self.cut_at)] if cut else content
        if form == "chunked":
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (content[:7], content[7:], b""))
        for piece in self._pieces("\r\n".join([*head, "", ""]).encode() + body):
            request.wfile.write(piece)

    def _pieces(self, answer: bytes) -> Iterator[bytes]:
        """Yields an answer: at once or byte by byte, with or without an end."""
        if self.drip_s:
            for start in range(len(answer)):
                yield answer[start : start + 1]
                time.sleep(self.drip_s)
        else:
            yield answer
        while self.endless:
            yield bytes(1 << 16)

    def blocks(self) -> dict[str, int]:
        """Returns the number of requests by block file."""
        return {name: count for name, count in self.asked.items() if "/c/" in name}

    def __enter__(self) -> "Website":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
