"""Servers of files, https and S3: the one file that imports urllib3 and obstore.

A web server may give no length for a file, and may pack it in transit: then it is unpacked as it
comes.
"""

import base64
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from pipeline.core.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECT_S = 5.0
SILENCE_S = 20.0  # without one byte, after which a connection counts as dropped
PIECE_BYTES = 64 * 1024

_MOST_REDIRECTS = 10
_KEYS = (  # where S3 credentials may come from; AWS_METADATA_ENDPOINT stands for the role of a cloud machine
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


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

    #: Whether it is asked without credentials where it may want some.
    lacks_keys: bool

    def get(self, name: str) -> Answer:
        """Asks for a file; this and its pieces raise ServerError."""


def is_url(place: Path | str) -> bool:
    """Returns whether `place` is a URL and not a path. A URL must stay a str: a Path drops one of
    its slashes.
    """
    return isinstance(place, str) and "://" in place


def without_password(address: SplitResult) -> str:
    """Returns an address for messages."""
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()


def parse_url(url: str) -> SplitResult:
    """Returns the parts of an address; raises StoreError where it is no store's."""
    where = re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url)[0])  # no password and no token in messages
    try:
        address = urlsplit(url.rstrip("/"))
    except ValueError as error:
        raise StoreError(where, f"not an address ({error})", expected="http(s):// or s3://") from None
    if address.scheme not in {"http", "https", "s3"} or not address.hostname:
        expected = "a folder, http(s)://<host>/... or s3://<bucket>/..."
        raise StoreError(where, "not an address of a store", expected=expected)
    if address.query or address.fragment:
        expected = "an address that files' names can be put behind"
        raise StoreError(where, "followed by a query or a fragment", expected=expected)
    return address


def connect(address: SplitResult, url: str) -> Server:
    """Returns the server at an address, which messages show as `url`; raises StoreError where it is
    of no use.
    """
    try:
        return _Bucket(url) if address.scheme == "s3" else _WebServer(address, url)
    except ImportError as error:
        fix = "run `pip install -c constraints.txt '.[remote]'`"
        raise StoreError(url, f"can't be read without the package {error.name or ''}".strip(), fix=fix) from None
    except ValueError as error:
        fix = "fix the address, or the AWS_... variables"
        raise StoreError(url, f"can't be opened ({error})", fix=fix) from None


class _WebServer:
    """A web server, asked through the proxy that the environment names, as by other programs."""

    lacks_keys = False

    def __init__(self, address: SplitResult, url: str) -> None:
        import urllib3

        _ = address.port  # raises ValueError for a port that can't be
        self._url = url
        retries = urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=_MOST_REDIRECTS)
        settings: dict[str, Any] = {"timeout": urllib3.Timeout(connect=CONNECT_S, read=SILENCE_S), "retries": retries}
        if address.username is not None:
            login = f"{unquote(address.username)}:{unquote(address.password or '')}".encode()
            settings["headers"] = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
        proxy = None if proxy_bypass(str(address.hostname)) else getproxies().get(address.scheme)
        self._pool = urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)

    def get(self, name: str) -> Answer:
        with _as_server_errors():
            answer = self._pool.request(
                "GET", quote(f"{self._url}/{name}", safe="/:%[]@!$&'()*+,;=~"), preload_content=False
            )
        if answer.status != 200:
            answer.close()
            raise _refusal(answer.status, f"{answer.status} {answer.reason or ''}".strip())
        packed = answer.headers.get("Content-Encoding", "identity").lower() != "identity"
        return Answer(None if packed else answer.length_remaining, self._pieces(answer), answer.close)

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        with _as_server_errors():
            while piece := answer.read1(PIECE_BYTES, decode_content=True):
                yield piece


@contextmanager
def _as_server_errors() -> Iterator[None]:
    from urllib3 import exceptions as found

    try:
        yield
    except found.HTTPError as error:
        cause = getattr(error, "reason", None)
        cause = cause if isinstance(cause, Exception) else error
        raise ServerError("passing", _words(cause)) from None


def _words(error: Exception) -> str:
    """Returns what went wrong with a connection, in a few words."""
    from urllib3 import exceptions as found

    if isinstance(error, found.NameResolutionError):
        return "no such host"
    if isinstance(error, found.NewConnectionError):
        return "connection refused" if "refused" in str(error) else "no connection"
    if isinstance(error, found.TimeoutError):
        return "no answer in time"
    if isinstance(error, found.SSLError):
        return "the server's certificate is not trusted" if "CERTIFICATE" in str(error) else "no secure connection"
    if isinstance(error, found.DecodeError):
        return "damaged in transit"
    if isinstance(error, found.ProtocolError):
        return "the connection was dropped"
    return f"{type(error).__name__}: {error}"


class _Bucket:
    """A bucket of an S3 server, or a folder in it."""

    def __init__(self, url: str) -> None:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        self.lacks_keys = not any(os.environ.get(key) for key in _KEYS)
        endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
        options: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=SILENCE_S),
            "timeout": timedelta(days=1),  # a block may come slowly
        }
        retry: RetryConfig = {"max_retries": 0}  # `Download` tries again, also where a body is cut off
        # Without keys it would ask a cloud machine's metadata service, which elsewhere does not
        # answer.
        unsigned: Any = {"skip_signature": True} if self.lacks_keys else {}
        try:
            self._bucket = S3Store.from_url(url, client_options=options, retry_config=retry, **unsigned)
        except BaseError as error:
            raise ValueError(_reason(error)) from None

    def get(self, name: str) -> Answer:
        import obstore

        with _as_bucket_errors():
            answer = obstore.get(self._bucket, name)
        return Answer(answer.meta["size"], self._pieces(answer), lambda: None)

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        with _as_bucket_errors():
            for piece in answer.stream(PIECE_BYTES):
                yield bytes(piece)


@contextmanager
def _as_bucket_errors() -> Iterator[None]:
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError:
        raise ServerError("missing", "404 Not Found") from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ServerError("refused", _reason(error)) from None
    except BaseError as error:
        reason = _reason(error)
        status = re.match(r"(\d{3}) ", reason)
        raise _refusal(int(status[1]), reason) if status else ServerError("passing", reason) from None


def _refusal(status: int, reason: str) -> ServerError:
    """Returns the error for an answer that is no file."""
    if status == 404:
        return ServerError("missing", reason)
    if status in (401, 403):
        return ServerError("refused", reason)
    # The server understood, and will answer the same again; 408 and 429 are for later.
    return ServerError("lasting" if status < 500 and status not in (408, 429) else "passing", reason)


_CAUSES = {  # of a failed request, as obstore's own account of an error has them
    "ConnectionRefused": "connection refused",
    "dns error": "no such host",
    "InvalidCertificate": "the server's certificate is not trusted",
    "TimedOut": "no answer in time",
    "IncompleteBody": "the connection was dropped",
    "ConnectionReset": "the connection was dropped",
    "IncompleteMessage": "the connection was dropped",
}


def _reason(error: Exception) -> str:
    """Returns what went wrong, in a few words; an answer of the server by its status."""
    text = str(error)
    if status := re.search(r"status code: (\d{3}[^:]*)", text):
        code = re.search(r"<Code>(\w+)</Code>", text)  # of S3
        return f"{status[1]}, {code[1]}" if code else status[1].strip()
    first = text.partition("\n")[0].rpartition(" - ")[2]
    return next((words for sign, words in _CAUSES.items() if sign in text), first)
