"""Buckets of every kind, and folders in their place: written and listed alike, and given up at once
where waiting is of no use.
"""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dump_host import CLOUDS

from benchmarks.object_dialects import DIALECTS
from benchmarks.object_server import ObjectServer
from pipeline.core.errors import StoreError
from pipeline.labels import uploads
from pipeline.labels.buckets import Bucket
from pipeline.labels.uploads import TRIES, ObjectFolder

ODD = "a b/ü+%2F&<c>.txt"


@pytest.fixture(autouse=True)
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Clears what there is of credentials; returns the seconds that are waited, which nobody
    does.
    """
    for name in [name for name in os.environ if name.startswith(CLOUDS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    waits: list[float] = []
    monkeypatch.setattr(uploads, "sleep", waits.append)
    return waits


@pytest.fixture(params=DIALECTS)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with ObjectServer(request.param) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def place(server: ObjectServer) -> ObjectFolder:
    return ObjectFolder.at(f"{server.scheme}://bucket/dir", aside="x")


def test_objects_are_written_read_listed_and_deleted(server: ObjectServer) -> None:
    bucket, server.most_listed = Bucket(f"{server.scheme}://bucket/dir"), 2
    names = [ODD, *(f"many/{number}" for number in range(5))]
    for name in names:
        assert bucket.put(name, name.encode(), new=True)
    assert not bucket.put(ODD, b"other", new=True)
    assert server.files("bucket/dir") == {name: name.encode() for name in names}
    assert bucket.put(ODD, b"other", new=False)
    assert b"".join(bucket.get(ODD).pieces) == b"other"
    assert (bucket.size(ODD), bucket.size("a b")) == (5, None)
    assert bucket.sizes("many") == dict.fromkeys(names[1:], 6)
    bucket.delete(["many/9", *names[:3], "many/8", names[4]])
    assert sorted(server.files("bucket/dir")) == ["many/2", "many/4"]


def test_nothing_is_still_being_deleted_afterwards(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, names = Bucket(f"{server.scheme}://bucket/dir"), ["gone", *"abcdefgh"]
    for name in names[1:]:
        bucket.put(name, b"", new=True)
    real, begun, ended = server.drop, list[str](), list[str]()

    def drop(names: list[str]) -> dict[str, bool]:
        is_first = names[0] not in begun
        begun.extend(names)
        if is_first:
            time.sleep(0.1 if names == ["bucket/dir/gone"] else 0.4)
        ended.extend(names)
        return real(names)

    monkeypatch.setattr(server, "drop", drop)
    bucket.delete(names)
    assert sorted(begun) == sorted(ended)
    assert server.files("bucket/dir") == {}


@pytest.mark.parametrize(
    ("status", "code", "found"),
    [
        (400, "InvalidArgument", "can't be written to (400 Bad Request, InvalidArgument)"),
        (401, "Unauthorized", "access refused (401 Unauthorized, Unauthorized)"),
        (403, "AccessDenied", "access refused (403 Forbidden, AccessDenied)"),
        (404, "NoSuchBucket", "no such bucket (404 Not Found, NoSuchBucket); make it"),
        (501, "NotImplemented", "keeps no object from being replaced (501 Not Implemented, NotImplemented)"),
        (507, "Full", "can't be written to (507 Insufficient Storage, Full)"),
        (301, "PermanentRedirect", "the bucket is in another region than AWS_REGION"),
    ],
)
def test_an_answer_that_lasts_is_given_up_at_once(
    status: int, code: str, found: str, server: ObjectServer, waits: list[float]
) -> None:
    server.refuses = (status, code)
    with pytest.raises(StoreError) as caught:
        place(server).create("x", b"")
    assert found in str(caught.value)
    assert (server.asked["PUT"], waits) == (1, [])


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "RequestTimeout"),
        (408, "Slow"),
        (409, "ConditionalRequestConflict"),
        (429, "SlowDown"),
        (500, "InternalError"),
        (503, "SlowDown"),
    ],
)
def test_an_answer_that_may_pass_is_waited_for(
    status: int, code: str, server: ObjectServer, waits: list[float]
) -> None:
    server.refuses = (status, code)
    with pytest.raises(StoreError, match=rf"no success in {TRIES} tries"):
        place(server).create("x", b"")
    assert (server.asked["PUT"], len(waits)) == (TRIES, TRIES - 1)


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:1", "http:///x", "http://[", "http://a b", "http://host:99999", "ftp://h"]
)
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT"])
def test_an_endpoint_of_no_use_is_named(variable: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, endpoint)
    scheme = {"AWS": "s3", "GOO": "gs", "AZU": "az"}[variable[:3]]
    with pytest.raises(StoreError, match=rf"^{scheme}://b: can't be opened \({variable} is no address of a server"):
        ObjectFolder.at(f"{scheme}://b", aside="x")


def test_an_account_must_be_named() -> None:
    with pytest.raises(StoreError, match=r"az://b: can't be opened \(Account must be specified\); .* AZURE_\.\.\. var"):
        ObjectFolder.at("az://b", aside="x")


@pytest.mark.parametrize("below", ["", "below/it"])
@pytest.mark.parametrize("way", ["a file", "a link to nowhere"])
def test_what_is_in_the_way_of_a_folder_is_named_at_once(
    way: str, below: str, tmp_path: Path, waits: list[float]
) -> None:
    blocked = tmp_path / "pets"
    if way == "a file":
        blocked.write_text("a file")
    else:
        blocked.symlink_to(tmp_path / "nowhere/x")
    with pytest.raises(StoreError) as caught:
        ObjectFolder.at(str(blocked / below), aside="x").create("a", b"content")
    assert str(caught.value).endswith(f"({blocked} is no folder); correct what is there, or name another place")
    assert waits == []


def test_a_folder_in_place_of_an_object_is_named_at_once(tmp_path: Path, waits: list[float]) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StoreError, match=r"/a: can't be written to \(it is a folder\)"):
        ObjectFolder.at(str(tmp_path), aside="x").create("a", b"content")
    assert waits == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("act", ["mkdir", "open"])
def test_what_a_disk_refuses_is_raised_at_once(
    act: str, code: int, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = ObjectFolder.at(str(tmp_path / "pets"), aside="x"), getattr(Path, act)

    def refuse(path: Path, *given: object, **named: object) -> object:
        if act == "open" and given == ("rb",):
            return real(path, *given)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, act, refuse)
    with pytest.raises(OSError, match=f"{os.strerror(code)}: .*/pets/a") as caught:  # a line, as everywhere
        folder.create("a", b"content")
    assert (caught.value.errno, waits) == (code, [])
