"""An object store on loopback, in memory, that fails on purpose: the part of the interfaces of S3,
Google and Azure that stores are written, listed and read by. Anyone may read; who writes must show
credentials.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.object_dialects import DIALECTS, Answer, Page

#: The ways to fail: an answer that asks for later; no answer, before the request is done or after;
#: half an answer.
FAULTS = ("busy", "dropped before", "dropped after", "cut off")


class ObjectServer:
    """A server of one bucket, `bucket`.

    Args:
        scheme: Whose dialect it understands: that of addresses that begin so.

    Attributes:
        objects: The content of each object, by its bucket and key.
        buckets: The buckets that there are.
        fails: The share of the requests that fail, drawn by a seed.
        refuses: An answer to give to whatever writes: a status and a code.
        is_conditional: Whether it heeds that an object must be new; not all servers do.
        delay_s: Seconds before each answer.
        most_listed: Keys in an answer to a list.
        on_put: The end of a name, and what is called before such an object is put there.
        asked: Requests by method.
        failed: Requests that failed on purpose, by fault and method.
    """

    def __init__(self, scheme: str = "s3", *, fails: float = 0.0, seed: int = 0) -> None:
        self.scheme, self.dialect = scheme, DIALECTS[scheme]
        self.objects: dict[str, bytes] = {}
        self.buckets = {"bucket"}
        self.fails, self._random = fails, random.Random(seed)
        self.refuses: tuple[int, str] | None = None
        self.is_conditional, self.most_listed, self.delay_s = True, 1000, 0.0
        self.on_put: tuple[str, Callable[[str], object]] | None = None
        self.asked: Counter[str] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                _Request(self, server).run()

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Listener(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which programs find it."""
        return self.dialect.environment(self.url)

    @property
    def url(self) -> str:
        """Returns its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def files(self, folder: str) -> dict[str, bytes]:
        """Returns the objects under a bucket or a folder in it, by their names there."""
        start = folder.rstrip("/") + "/"
        with self._lock:
            return {name.removeprefix(start): body for name, body in self.objects.items() if name.startswith(start)}

    def fault(self, method: str) -> str | None:
        """Returns the way in which a request is to fail, if it is."""
        with self._lock:
            self.asked[method] += 1
            if self._random.random() >= self.fails:
                return None
            fault = self._random.choice(FAULTS)
            self.failed[fault, method] += 1
            return fault

    def put(self, name: str, body: bytes, *, new: bool) -> bool:
        """Keeps an object; returns False where it must be `new` and is not."""
        with self._lock:
            if new and self.is_conditional and name in self.objects:
                return False
            self.objects[name] = body
            return True

    def drop(self, names: list[str]) -> dict[str, bool]:
        """Deletes objects; returns whether each was there."""
        with self._lock:
            return {name: self.objects.pop(name, None) is not None for name in names}

    def __enter__(self) -> "ObjectServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Says nothing of a client that was killed."""


class _Request:
    """A request, and the answer to it."""

    def __init__(self, handler: BaseHTTPRequestHandler, server: ObjectServer) -> None:
        self._handler, self._server = handler, server
        self._method = handler.command
        address = urlsplit(handler.path)
        self._name, self._query = unquote(address.path).strip("/"), parse_qs(address.query, keep_blank_values=True)
        self._bucket = self._name.partition("/")[0]
        if server.on_put and self._method == "PUT" and self._name.endswith(server.on_put[0]):
            server.on_put[1](self._name)
        self._body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self._fault = server.fault(self._method)

    def run(self) -> None:
        time.sleep(self._server.delay_s)
        dialect, writes = self._server.dialect, self._method not in ("GET", "HEAD")
        if self._fault == "busy":
            self._say(dialect.refusal("busy"))
        elif self._fault == "dropped before":
            self._handler.close_connection = True
        elif writes and not dialect.is_signed(self._handler.headers):  # type: ignore[arg-type]
            self._say(dialect.refusal("unsigned"))
        elif self._bucket not in self._server.buckets:
            self._say(dialect.refusal("no bucket"))
        elif self._server.refuses and writes:
            self._say(dialect.failed(*self._server.refuses))
        else:
            self._say(self._act())

    def _act(self) -> Answer:
        server, dialect = self._server, self._server.dialect
        if self._method == "PUT":
            new = dialect.must_be_new(self._handler.headers)  # type: ignore[arg-type]
            is_put = server.put(self._name, self._body, new=new)
            return Answer(dialect.put_status, headers={"ETag": "x"}) if is_put else dialect.refusal("not new")
        if self._method == "DELETE":
            return Answer(204) if server.drop([self._name])[self._name] else dialect.refusal("nothing to delete")
        if self._method == "POST":  # many to be deleted
            return dialect.deleted(server.drop(dialect.to_delete(self._bucket, self._body.decode())))
        if dialect.is_list(self._query):
            return self._list()
        body = server.objects.get(self._name)
        return dialect.refusal("no object") if body is None else dialect.content(body)

    def _list(self) -> Answer:
        """Returns the objects under a prefix, some at a time, in the order of their keys."""
        dialect, most = self._server.dialect, self._server.most_listed
        prefix, after = (self._query.get(name, [""])[0] for name in ("prefix", dialect.marker))
        files = self._server.files(self._bucket)
        keys = sorted(key for key in files if key.startswith(prefix) and key > after)
        some = {key: files[key] for key in keys[:most]}
        return dialect.page(self._bucket, Page(some, keys[most - 1] if len(keys) > most else ""))

    def _say(self, answer: Answer) -> None:
        handler: Any = self._handler
        if self._fault == "dropped after":
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.status != 204:
            handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if self._method == "HEAD" or answer.status == 204:
            return
        body = answer.body
        if self._fault == "cut off":
            body, handler.close_connection = body[: len(body) // 2], True
        handler.wfile.write(body)
