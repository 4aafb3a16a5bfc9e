"""The dialects of object stores, as obstore's clients speak them: S3's, Google's and Azure's."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import escape, unescape

_DATE = "Sat, 28 Nov 2026 00:00:00 GMT"


class Answer(NamedTuple):
    """An answer to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Page(NamedTuple):
    """A part of a list of objects: their content by key, and the last key where there are more."""

    objects: Mapping[str, bytes]
    more: str = ""


class Dialect(ABC):
    """The common interface of the dialects.

    Attributes:
        put_status: The status of an answer to who has put something there.
        refusals: The answers that are no success, by what is wrong.
        marker: The name in a query of where a list goes on.
    """

    put_status: ClassVar[int] = 200
    refusals: ClassVar[Mapping[str, tuple[int, str]]]
    marker: ClassVar[str] = "continuation-token"

    @abstractmethod
    def environment(self, url: str) -> dict[str, str]:
        """Returns the variables by which programs find a server at a URL, with credentials."""

    @abstractmethod
    def is_signed(self, headers: Mapping[str, str]) -> bool:
        """Returns whether a request shows the credentials of `environment`; its signature is not
        computed again.
        """

    @abstractmethod
    def must_be_new(self, headers: Mapping[str, str]) -> bool:
        """Returns whether what is put there may replace nothing."""

    @abstractmethod
    def is_list(self, query: Mapping[str, Sequence[str]]) -> bool:
        """Returns whether a request asks for a list."""

    @abstractmethod
    def page(self, bucket: str, page: Page) -> Answer:
        """Returns the answer to who asks for a list."""

    @abstractmethod
    def to_delete(self, bucket: str, body: str) -> list[str]:
        """Returns the objects, by bucket and key, that one request is to delete."""

    @abstractmethod
    def deleted(self, names: Mapping[str, bool]) -> Answer:
        """Returns the answer to such a request.

        Args:
            names: Whether each was there.
        """

    def refusal(self, what: str) -> Answer:
        """Returns the answer that something is wrong."""
        return self.failed(*self.refusals[what])

    def failed(self, status: int, code: str) -> Answer:
        """Returns the answer of a status, with a code."""
        return Answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def content(self, body: bytes) -> Answer:
        """Returns the answer to who asks for an object."""
        return Answer(200, body, {"ETag": tag_of(body), "Last-Modified": _DATE})


class _LikeS3(Dialect):
    """The common part of S3 and of Google's store in XML."""

    def is_list(self, query: Mapping[str, Sequence[str]]) -> bool:
        return "list-type" in query

    def page(self, bucket: str, page: Page) -> Answer:
        listed = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-28T00:00:00.000Z</LastModified>"
            f"<ETag>{tag_of(body)}</ETag><Size>{len(body)}</Size></Contents>"
            for key, body in page.objects.items()
        )
        more = f"<NextContinuationToken>{escape(page.more)}</NextContinuationToken>" if page.more else ""
        head = f"<Name>{bucket}</Name><IsTruncated>{str(bool(page.more)).lower()}</IsTruncated>"
        return Answer(200, f"<ListBucketResult>{head}{more}{listed}</ListBucketResult>".encode())

    def to_delete(self, bucket: str, body: str) -> list[str]:
        return [f"{bucket}/{unescape(key)}" for key in re.findall(r"<Key>(.*?)</Key>", body)]

    def deleted(self, names: Mapping[str, bool]) -> Answer:
        gone = "".join(f"<Deleted><Key>{escape(name.partition('/')[2])}</Key></Deleted>" for name in names)
        return Answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())


class S3(_LikeS3):
    """The dialect of Amazon."""

    refusals: ClassVar = {
        "busy": (503, "SlowDown"),
        "unsigned": (403, "AccessDenied"),
        "no bucket": (404, "NoSuchBucket"),
        "no object": (404, "NoSuchKey"),
        "nothing to delete": (204, ""),
        "not new": (412, "PreconditionFailed"),
    }

    def environment(self, url: str) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}

    def is_signed(self, headers: Mapping[str, str]) -> bool:
        return headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 Credential=key/")

    def must_be_new(self, headers: Mapping[str, str]) -> bool:
        return headers.get("If-None-Match") == "*"


class Google(_LikeS3):
    """The dialect of Google, in which each object is deleted by a request of its own."""

    refusals: ClassVar = {
        "busy": (503, "ServiceUnavailable"),
        "unsigned": (401, "AuthenticationRequired"),
        "no bucket": (404, "NoSuchBucket"),
        "no object": (404, "NoSuchKey"),
        "nothing to delete": (404, "NoSuchKey"),
        "not new": (412, "PreconditionFailed"),
    }

    def environment(self, url: str) -> dict[str, str]:
        return {"GOOGLE_BASE_URL": url, "GOOGLE_BEARER_TOKEN": "token"}

    def is_signed(self, headers: Mapping[str, str]) -> bool:
        return headers.get("Authorization") == "Bearer token"

    def must_be_new(self, headers: Mapping[str, str]) -> bool:
        return headers.get("x-goog-if-generation-match") == "0"


class Azure(Dialect):
    """The dialect of Microsoft, which calls buckets containers and objects blobs."""

    put_status = 201
    refusals: ClassVar = {
        "busy": (503, "ServerBusy"),
        "unsigned": (401, "NoAuthenticationInformation"),
        "no bucket": (404, "ContainerNotFound"),
        "no object": (404, "BlobNotFound"),
        "nothing to delete": (404, "BlobNotFound"),
        "not new": (409, "BlobAlreadyExists"),
    }
    marker = "marker"

    def environment(self, url: str) -> dict[str, str]:
        key = "c2VjcmV0"  # "secret" in base64
        return {
            "AZURE_STORAGE_ENDPOINT": url,
            "AZURE_STORAGE_ACCOUNT_NAME": "account",
            "AZURE_STORAGE_ACCOUNT_KEY": key,
        }

    def is_signed(self, headers: Mapping[str, str]) -> bool:
        return headers.get("Authorization", "").startswith("SharedKey account:")

    def must_be_new(self, headers: Mapping[str, str]) -> bool:
        return headers.get("If-None-Match") == "*"

    def is_list(self, query: Mapping[str, Sequence[str]]) -> bool:
        return query.get("comp") == ["list"]

    def page(self, bucket: str, page: Page) -> Answer:
        listed = "".join(
            f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{_DATE}</Last-Modified>"
            f"<Etag>{tag_of(body)}</Etag><Content-Length>{len(body)}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
            for key, body in page.objects.items()
        )
        more = f"<NextMarker>{escape(page.more)}</NextMarker>"
        return Answer(200, f"<EnumerationResults><Blobs>{listed}</Blobs>{more}</EnumerationResults>".encode())

    def to_delete(self, bucket: str, body: str) -> list[str]:
        return [unquote(path) for path in re.findall(r"^DELETE /(\S+) HTTP", body, re.MULTILINE)]

    def deleted(self, names: Mapping[str, bool]) -> Answer:
        lines = []
        for number, was_there in enumerate(names.values()):
            status = "202 Accepted" if was_there else "404 The specified blob does not exist."
            lines += ["--parts", "Content-Type: application/http", f"Content-ID: {number}", ""]
            lines += [f"HTTP/1.1 {status}", "Content-Length: 0", "", ""]
        body = "\r\n".join([*lines, "--parts--", ""]).encode()
        return Answer(202, body, {"Content-Type": "multipart/mixed; boundary=parts"})


DIALECTS: Mapping[str, Dialect] = {"s3": S3(), "gs": Google(), "az": Azure()}


def tag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
