"""Servers of files by their addresses, and web servers: the one file that imports urllib3.

A web server may give no length for a file, and may pack it in transit: then it is unpacked as it
comes.
"""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from pipeline.core.errors import StoreError
from pipeline.labels.answers import CONNECT_S, PIECE_BYTES, SILENCE_S, UNTRUSTED, Answer, Server, ServerError, refusal
from pipeline.labels.buckets import SCHEMES, Bucket

_MOST_REDIRECTS = 10
_ADDRESSES = "a folder, http(s)://<host>/..., s3://<bucket>/..., gs://<bucket>/... or az://<container>/..."


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
        raise StoreError(where, f"not an address ({error})", expected=_ADDRESSES) from None
    if address.scheme not in {"http", "https", *SCHEMES} or not address.hostname:
        raise StoreError(where, "not an address of a store", expected=_ADDRESSES)
    if address.query or address.fragment:
        expected = "an address that files' names can be put behind"
        raise StoreError(where, "followed by a query or a fragment", expected=expected)
    return address


def connect(address: SplitResult, url: str) -> Server:
    """Returns the server at an address, which messages show as `url`; raises StoreError where it is
    of no use.
    """
    try:
        return Bucket(url) if address.scheme in SCHEMES else _WebServer(address, url)
    except ImportError as error:
        fix = "run `pip install -c constraints.txt '.[remote]'`"
        raise StoreError(url, f"can't be read without the package {error.name or ''}".strip(), fix=fix) from None
    except ValueError as error:
        fix = "fix the address, or the AWS_..., GOOGLE_... or AZURE_... variables"
        raise StoreError(url, f"can't be opened ({error})", fix=fix) from None


class _WebServer:
    """A web server, asked through the proxy that the environment names, as by other programs."""

    needed_keys = ""

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
            raise refusal(answer.status, f"{answer.status} {answer.reason or ''}".strip())
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
        words = _words(cause)
        raise ServerError("lasting" if words == UNTRUSTED else "passing", words) from None


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
        return UNTRUSTED if "CERTIFICATE" in str(error) else "no secure connection"
    if isinstance(error, found.DecodeError):
        return "damaged in transit"
    if isinstance(error, found.ProtocolError):
        return "the connection was dropped"
    return f"{type(error).__name__}: {error}"
