"""An S3 server on loopback, in memory, that fails on purpose: the part of the interface that stores
are written, listed and read by. It looks at no signature.
"""

import hashlib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

_DATE = "Sat, 28 Nov 2026 00:00:00 GMT"
_LISTED_DATE = "2026-11-28T00:00:00.000Z"
#: The ways to fail: an answer that asks for later; no answer, before the request is done or after;
#: half an answer.
FAULTS = ("busy", "dropped before", "dropped after", "cut off")


class ObjectServer:
    """A server of buckets.

    Attributes:
        objects: The content of each object, by its bucket and key.
        buckets: The buckets that there are.
        fails: The share of the requests that fail, drawn by a seed.
        refuses: An answer to give to whatever writes: a status and a code.
        is_conditional: Whether it heeds `If-None-Match`; not all servers do.
        delay_s: Seconds before each answer.
        most_listed: Keys in an answer to a list.
        on_put: The end of a name, and what is called before such an object is put there.
        asked: Requests by method.
        failed: Requests that failed on purpose, by fault and method.
    """

    def __init__(self, buckets: tuple[str, ...] = ("bucket",), *, fails: float = 0.0, seed: int = 0) -> None:
        self.objects: dict[str, bytes] = {}
        self.buckets = set(buckets)
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
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}

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

    def drop(self, names: list[str]) -> None:
        """Deletes objects, also such as are not there."""
        with self._lock:
            for name in names:
                self.objects.pop(name, None)

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
        if self._fault == "busy":
            self._say(503, b"<Error><Code>SlowDown</Code></Error>")
        elif self._fault == "dropped before":
            self._handler.close_connection = True
        elif self._bucket not in self._server.buckets:
            self._say(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif self._server.refuses and self._method not in ("GET", "HEAD"):
            status, code = self._server.refuses
            self._say(status, f"<Error><Code>{code}</Code></Error>".encode())
        else:
            self._act()

    def _act(self) -> None:
        if self._method == "PUT":
            new = self._handler.headers.get("If-None-Match") == "*"
            if self._server.put(self._name, self._body, new=new):
                self._say(200, tag=_tag(self._body))
            else:
                self._say(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        elif self._method == "DELETE":
            self._server.drop([self._name])
            self._say(204)
        elif self._method == "POST" and "delete" in self._query:
            keys = [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", self._body.decode())]
            self._server.drop([f"{self._bucket}/{key}" for key in keys])
            gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
            self._say(200, f"<DeleteResult>{gone}</DeleteResult>".encode())
        elif self._method == "GET" and "list-type" in self._query:
            self._list()
        elif (body := self._server.objects.get(self._name)) is not None:
            self._say(200, body, tag=_tag(body))
        else:
            self._say(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _list(self) -> None:
        """Answers with the keys under a prefix, some at a time, in their order."""
        prefix, after = (self._query.get(name, [""])[0] for name in ("prefix", "continuation-token"))
        files = self._server.files(self._bucket)
        keys = sorted(key for key in files if key.startswith(prefix) and key > after)
        some, most = keys[: self._server.most_listed], self._server.most_listed
        listed = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_LISTED_DATE}</LastModified>"
            f"<ETag>{_tag(files[key])}</ETag><Size>{len(files[key])}</Size></Contents>"
            for key in some
        )
        more = f"<NextContinuationToken>{escape(some[-1])}</NextContinuationToken>" if len(keys) > most else ""
        head = f"<Name>{self._bucket}</Name><IsTruncated>{str(len(keys) > most).lower()}</IsTruncated>"
        self._say(200, f"<ListBucketResult>{head}{more}{listed}</ListBucketResult>".encode())

    def _say(self, status: int, body: bytes = b"", tag: str | None = None) -> None:
        handler: Any = self._handler
        if self._fault == "dropped after":
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in {"ETag": tag, "Last-Modified": _DATE, "Content-Length": str(len(body))}.items():
            if value is not None and (status != 204 or name != "Content-Length"):
                handler.send_header(name, value)
        handler.end_headers()
        if self._method == "HEAD":
            return
        if self._fault == "cut off":
            body, handler.close_connection = body[: len(body) // 2], True
        handler.wfile.write(body)


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
