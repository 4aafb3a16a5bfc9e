"""Buckets of object stores: S3, Google's and Azure's; the one file that imports obstore."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pipeline.labels.answers import AT_ONCE, CONNECT_S, PIECE_BYTES, SILENCE_S, UNTRUSTED, Answer, ServerError, refusal

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig


class _Kind(NamedTuple):
    """A kind of object store.

    Attributes:
        keys: Variables and files that credentials may come from; a variable for its metadata
            service stands for the role of a cloud machine.
        needed: The variables to set, for messages.
        endpoints: Variables that name another server than the provider's.
        unsigned: The settings with which it asks without credentials, and looks for none.
        deletes_many: Whether one request deletes several objects.
    """

    store: str
    keys: Sequence[str]
    needed: str
    endpoints: Sequence[str]
    unsigned: Mapping[str, Any] = {"skip_signature": True}
    deletes_many: bool = True


_KINDS: Mapping[str, _Kind] = {
    "s3": _Kind(
        "S3Store",
        (
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_METADATA_ENDPOINT",
        ),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    ),
    "gs": _Kind(
        "GCSStore",
        (
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_BEARER_TOKEN",
            "GCE_METADATA_HOST",
            "~/.config/gcloud/application_default_credentials.json",
        ),
        "GOOGLE_APPLICATION_CREDENTIALS (on a cloud machine: GCE_METADATA_HOST)",
        ("GOOGLE_BASE_URL",),
        # What writes is signed nevertheless, by a token that is asked for unless there is one.
        {"skip_signature": True, "bearer_token": ""},
        deletes_many=False,
    ),
    "az": _Kind(
        "AzureStore",
        (
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_MASTER_KEY",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_STORAGE_TOKEN",
            "AZURE_STORAGE_CLIENT_ID",
            "AZURE_CLIENT_ID",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_USE_AZURE_CLI",
            "AZURE_MSI_ENDPOINT",
            "AZURE_IDENTITY_ENDPOINT",
            "IDENTITY_ENDPOINT",
            "AZURE_STORAGE_USE_EMULATOR",
        ),
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    ),
}
SCHEMES = tuple(_KINDS)


class Bucket:
    """A bucket of an object store, or a folder in it; raises ValueError for an address of no
    use.
    """

    def __init__(self, url: str) -> None:
        from obstore import store as stores
        from obstore.exceptions import BaseError

        kind = _KINDS[url.partition(":")[0]]
        has_keys = any(os.environ.get(key) or (key[0] == "~" and Path(key).expanduser().exists()) for key in kind.keys)
        self._deletes_many = kind.deletes_many
        self.needed_keys = "" if has_keys else kind.needed
        options: ClientConfig = {
            "allow_http": _endpoint(kind.endpoints).startswith("http:"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=SILENCE_S),
            "timeout": timedelta(days=1),  # a block may come slowly
        }
        retry: RetryConfig = {"max_retries": 0}  # who asks tries again, also where a body is cut off
        # Without keys it would ask a cloud machine's metadata service, which elsewhere does not
        # answer.
        config = {} if has_keys else kind.unsigned
        try:
            self._bucket = getattr(stores, kind.store).from_url(
                url, client_options=options, retry_config=retry, **config
            )
        except BaseError as error:
            raise ValueError(_reason(error)) from None

    def get(self, name: str) -> Answer:
        import obstore

        with _as_server_errors():
            answer = obstore.get(self._bucket, name)
        return Answer(answer.meta["size"], self._pieces(answer), lambda: None)

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        with _as_server_errors():
            for piece in answer.stream(PIECE_BYTES):
                yield bytes(piece)

    def put(self, name: str, content: bytes, *, new: bool) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with _as_server_errors():
            try:  # in one piece: several are no new object before the last one is there
                mode = "create" if new else "overwrite"
                obstore.put(self._bucket, name, content, mode=mode, use_multipart=False)  # type: ignore[arg-type]
            except AlreadyExistsError:
                return False
        return True

    def size(self, name: str) -> int | None:
        import obstore

        try:
            with _as_server_errors():
                return int(obstore.head(self._bucket, name)["size"])
        except ServerError as error:
            if error.kind != "missing":
                raise
            return None

    def sizes(self, folder: str) -> dict[str, int]:
        import obstore

        with _as_server_errors():
            parts = obstore.list(self._bucket, folder, chunk_size=1000)
            return {str(each["path"]): int(each["size"]) for part in parts for each in part}

    def delete(self, names: Sequence[str]) -> None:
        import obstore

        with _as_server_errors():
            if self._deletes_many:
                with suppress(FileNotFoundError):  # as Azure's answers where one is gone, and leaves others
                    obstore.delete(self._bucket, list(names))
                    return
            # Each to its end: obstore gives up all at the first that is gone, and one on its way
            # might arrive after that object was put there again.
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(self._delete_one, names))

    def _delete_one(self, name: str) -> None:
        import obstore

        with suppress(FileNotFoundError):
            obstore.delete(self._bucket, name)


def _endpoint(variables: Sequence[str]) -> str:
    """Returns the server that variables name; empty without."""
    for variable in variables:
        if endpoint := os.environ.get(variable, ""):
            if not _is_server(endpoint):
                raise ValueError(f"{variable} is no address of a server, as https://host")
            return endpoint
    return ""


def _is_server(endpoint: str) -> bool:
    """Returns whether obstore can ask such a server; by others its thread would come to grief."""
    try:
        address = urlsplit(endpoint)
        _ = address.port
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname) and " " not in endpoint


@contextmanager
def _as_server_errors() -> Iterator[None]:
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError as error:
        raise ServerError("missing", _reason(error)) from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ServerError("refused", _reason(error)) from None
    except BaseError as error:
        reason = _reason(error)
        if status := re.match(r"(\d{3}) ", reason):
            raise refusal(int(status[1]), reason) from None
        raise ServerError("lasting" if reason in _LASTING.values() else "passing", reason) from None


# Causes of a failed request, as obstore's own account of an error has them.
_LASTING = {
    "InvalidCertificate": UNTRUSTED,
    "without LOCATION": "the bucket is in another region than AWS_REGION",
}
_PASSING = {
    "ConnectionRefused": "connection refused",
    "dns error": "no such host",
    "TimedOut": "no answer in time",
    "IncompleteBody": "the connection was dropped",
    "ConnectionReset": "the connection was dropped",
    "IncompleteMessage": "the connection was dropped",
}


def _reason(error: Exception) -> str:
    """Returns what went wrong, in a few words; an answer of the server by its status."""
    text = str(error)
    if status := re.search(r"status code: (\d{3}[^:]*)", text):
        code = re.search(r"<Code>(\w+)</Code>", text)
        return f"{status[1]}, {code[1]}" if code else status[1].strip()
    first = re.sub(r"^Generic \w+ error: ", "", text.partition("\n")[0]).rpartition(" - ")[2]
    return next((words for sign, words in (_LASTING | _PASSING).items() if sign in text), first)
