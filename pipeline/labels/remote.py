"""A store at a URL, mirrored on disk: the one file that imports obstore.

A mirror is a folder that comes to hold the same files as the store at its URL, each fetched when it
is first asked for: whole, once, by however many processes. Names are asked for and never listed, so
that any static web server will do. The folder's name is made of the URL and the content of the
store's `zarr.json`, which is fetched at every opening: a store that was replaced gets another
folder. All of a mirror may be deleted at any time."""

import base64
import hashlib
import io
import os
import re
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from filelock import FileLock

from pipeline.core.arrays import ArrayGroup
from pipeline.core.errors import StoreError
from pipeline.core.files import sync_folder, write_bytes
from pipeline.core.progress import say

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

TRIES = 4
FIRST_WAIT_S = 0.5  # before the second try; doubled before each further one
CONNECT_S = 5.0
SILENCE_S = 20.0  # without one byte, after which a connection counts as dropped
PIECE_BYTES = 64 * 1024

_ROOT = "zarr.json"
_KEYS = (  # where S3 credentials may come from; AWS_METADATA_ENDPOINT stands for the role of a cloud machine
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def is_url(place: Path | str) -> bool:
    """Returns whether `place` is a URL and not a path. A URL must stay a str: a Path drops one of
    its slashes.
    """
    return isinstance(place, str) and "://" in place


def cache_folder() -> Path:
    """Returns the folder of all mirrors: `$POTSTILL_CACHE`, or `potstill` in the user's cache
    folder.
    """
    if own := os.environ.get("POTSTILL_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "potstill"


def open_group(place: Path | str, *, made_by: str) -> ArrayGroup:
    """Opens the arrays at a path or URL for reading; raises StoreError where there are none."""
    mirror = Mirror(str(place)) if is_url(place) else None
    return ArrayGroup.open(mirror.folder if mirror else Path(place), made_by=made_by, mirror=mirror)


class Mirror:
    """The store at `url` (`http(s)://` or `s3://`), in `folder` as far as it was fetched.

    Raises StoreError, in one line, for an address that is of no use, a file that is not there,
    refused access, and a file that does not come whole in `TRIES` tries."""

    def __init__(self, url: str) -> None:
        address = _parse(url)
        self.url = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()  # no password in messages
        self._remote = _connect(address, self.url)
        self._needs_keys = address.scheme == "s3" and not _has_keys()
        root = self._root("no such store")
        self._digest = _sha256(root)
        name = re.sub(r"[^\w.-]", "_", self.url.rpartition("/")[2])[-80:]
        self.folder = cache_folder() / f"{name}-{_sha256(f'{self.url} {self._digest}'.encode())[:32]}"
        file = self.folder / _ROOT
        if not file.exists() or file.read_bytes() != root:
            write_bytes(file, root)

    def fetch(self, names: Iterable[str], *, again: bool = False) -> None:
        """Fetches files of the store into the folder: those that it lacks or, with `again`, all of
        them.
        """
        for name in names:
            file = self.folder / name
            if _is_there(file) and not again:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder.with_name(f"{self.folder.name}.lock")):
                if again or not _is_there(file):  # another process may have fetched it meanwhile
                    self._fetch(name, file)

    def _fetch(self, name: str, file: Path) -> None:
        partial = file.with_name(f"{file.name}.partial")
        try:
            with partial.open("wb") as out:
                missing = "no such array" if name.endswith(_ROOT) else "block file is missing at its URL"
                if not self._download(name, out, missing):
                    raise StoreError(f"{self.url}/{name}", "is empty", fix="put a whole store there")
                out.flush()
                os.fsync(out.fileno())
            if _sha256(self._root("store is gone")) != self._digest:
                raise StoreError(self.url, "was replaced while it was read", fix="run the same command again")
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)

    def _root(self, missing: str) -> bytes:
        content = io.BytesIO()
        self._download(_ROOT, content, missing)
        return content.getvalue()

    def _download(self, name: str, out: io.BufferedIOBase, missing: str) -> int:
        """Writes a remote file to `out` and returns its size; tries again where the connection or
        the server fails.
        """
        import obstore
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        where = f"{self.url}/{name}"
        for tried in range(1, TRIES + 1):
            out.seek(0)
            out.truncate()
            try:
                answer = obstore.get(self._remote, name)
                for piece in answer.stream(PIECE_BYTES):
                    out.write(piece)
            except FileNotFoundError:
                fix = "fix the address" if name == _ROOT else "put a whole store there"
                raise StoreError(where, missing, fix=fix) from None
            except (PermissionDeniedError, UnauthenticatedError) as error:
                raise self._refused(where, _reason(error)) from None
            except BaseError as error:
                reason = _reason(error)
                if re.match(r"4(?!08|29)\d\d ", reason):  # the server understood, and will answer the same again
                    raise StoreError(where, f"could not be fetched ({reason})", fix="fix the address") from None
            else:
                if out.tell() == answer.meta["size"]:
                    return out.tell()
                reason = f"{out.tell()} bytes came instead of {answer.meta['size']}"
            if tried < TRIES:
                wait = FIRST_WAIT_S * 2 ** (tried - 1)
                say(f"{where}: {reason}; trying again in {wait:g} s ({tried + 1} of {TRIES})")
                time.sleep(wait)
        fix = "look after the connection or the server, then run the same command to go on"
        raise StoreError(where, f"could not be fetched after {TRIES} tries ({reason})", fix=fix)

    def _refused(self, where: str, reason: str) -> StoreError:
        if self._needs_keys:
            fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return StoreError(where, f"access refused ({reason}); asked without credentials", fix=fix)
        return StoreError(where, f"access refused ({reason})", fix="fix the credentials, or the rights on the server")


def _is_there(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _parse(url: str) -> SplitResult:
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


def _connect(address: SplitResult, url: str) -> Any:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import HTTPStore, S3Store
    except ImportError:
        fix = "run `pip install -c constraints.txt '.[remote]'`"
        raise StoreError(url, "can't be read without the package obstore", fix=fix) from None
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "") if address.scheme == "s3" else url
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=SILENCE_S),
        "timeout": timedelta(days=1),  # a block may come slowly
    }
    if address.username is not None:
        login = f"{unquote(address.username)}:{unquote(address.password or '')}".encode()
        options["default_headers"] = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
    retry: RetryConfig = {"max_retries": 0}  # `_download` tries again, also where a body is cut off
    try:
        if address.scheme == "s3":
            if _has_keys():
                return S3Store.from_url(url, client_options=options, retry_config=retry)
            # Else it would ask a cloud machine's metadata service, which elsewhere does not answer.
            return S3Store.from_url(url, client_options=options, retry_config=retry, skip_signature=True)
        return HTTPStore(url, client_options=options, retry_config=retry)
    except (BaseError, ValueError) as error:
        fix = "fix the address, or the AWS_... variables"
        raise StoreError(url, f"can't be opened ({_reason(error)})", fix=fix) from None


def _has_keys() -> bool:
    return any(os.environ.get(key) for key in _KEYS)


_CAUSES = {  # of a failed request, as the library's own account of an error has them
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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
