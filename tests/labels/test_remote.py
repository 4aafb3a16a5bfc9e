"""A store at a URL: each file comes once, whole and unharmed, whatever the connection does, or
there is one clear line.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import ODDS, Row, is_sound, make
from website import Website

from pipeline.core.arrays import ArrayGroup, ArrayLayout
from pipeline.core.closure import TOP
from pipeline.core.errors import StoreError
from pipeline.labels import downloads, servers
from pipeline.labels.cache import cache_folder
from pipeline.labels.reader import StoreReader
from pipeline.labels.remote import Mirror, open_group
from pipeline.labels.servers import is_url

VIEWS, ROWS, BLOCK = 2, 25, 10
BLOCKS = {f"x.zarr/labels/c/{view}/{block}/0" for view in range(VIEWS) for block in range(3)}


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a cache of the test's own, no credentials or proxies from outside, short waits."""
    for key in list(os.environ):
        if key.startswith("AWS_") or key.lower().endswith("_proxy"):
            monkeypatch.delenv(key)
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "FIRST_WAIT_S", 0.01)


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (VIEWS, ROWS, 4), dtype=np.uint8)


def write(path: Path, seed: int = 0) -> np.ndarray:
    """Writes a small group; returns it and what is in its blocks."""
    group, data = ArrayGroup.create(path, {"seed": seed}), values(seed)
    group.create_array(
        "labels", data.shape, data.dtype, fill_value=255, layout=ArrayLayout(row_axis=1, block_rows=BLOCK)
    )
    for view in range(VIEWS):
        for start in range(0, ROWS, BLOCK):
            stop = min(start + BLOCK, ROWS)
            group.write("labels", data[view, start:stop], view, slice(start, stop))
    group.create_array("ids", (ROWS,), np.dtype(np.uint64), fill_value=0)
    group.write("ids", np.arange(1, ROWS + 1, dtype=np.uint64))
    return data


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Website]:
    write(tmp_path / "site" / "x.zarr")
    with Website(tmp_path / "site") as site:
        yield site


def opened(site: Website) -> ArrayGroup:
    return open_group(f"{site.url}/x.zarr", made_by="dump_labels")


def the_error(act: Callable[[], object], *parts: str) -> str:
    """Returns the one line of the StoreError that `act` raises, which has all `parts`."""
    with pytest.raises(StoreError) as caught:
        act()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 300, line
    for part in parts:
        assert part in line, line
    return line


def cached(group: ArrayGroup, name: str) -> Path:
    return group.path / name


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("place", ["http://h/x", "https://h/x.zarr", "s3://b/x", "gs://b/x"])
def test_what_has_a_scheme_is_a_url(place: str) -> None:
    assert is_url(place)


@pytest.mark.parametrize("place", ["data/x.zarr", "/a/b", "s3:/b/x", Path("http://h/x"), "c:x"])
def test_anything_else_is_a_path(place: str | Path) -> None:
    assert not is_url(place)


def test_every_block_comes_once_in_two_epochs_and_never_again_from_the_cache(site: Website) -> None:
    group = opened(site)
    for _ in range(2):
        for view in range(VIEWS):
            np.testing.assert_array_equal(group.read("labels", view, slice(0, ROWS)), values()[view])
    np.testing.assert_array_equal(group.read_whole("ids"), np.arange(1, ROWS + 1))
    assert group.attributes == {"seed": 0}
    assert site.blocks() == dict.fromkeys(BLOCKS | {"x.zarr/ids/c/0"}, 1)
    assert set(site.asked) - set(site.blocks()) == {
        "x.zarr/zarr.json",
        "x.zarr/labels/zarr.json",
        "x.zarr/ids/zarr.json",
    }
    site.asked.clear()
    np.testing.assert_array_equal(opened(site).read("labels"), values())
    assert site.asked == {"x.zarr/zarr.json": 1}


def test_only_the_blocks_of_a_range_come(site: Website) -> None:
    np.testing.assert_array_equal(opened(site).read("labels", 1, slice(12, 23)), values()[1, 12:23])
    assert site.blocks() == {"x.zarr/labels/c/1/1/0": 1, "x.zarr/labels/c/1/2/0": 1}


def test_the_mirror_holds_the_same_files(site: Website) -> None:
    group = opened(site)
    group.read("labels")
    group.read("ids")
    source = site.folder / "x.zarr"
    names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {path.relative_to(group.path) for path in group.path.rglob("*") if path.is_file()} == names
    for name in names:
        assert (group.path / name).read_bytes() == (source / name).read_bytes()
    assert group.location == f"{site.url}/x.zarr"


def test_spaces_and_a_slash_at_the_end_of_an_address_do_no_harm(site: Website) -> None:
    shutil.move(site.folder / "x.zarr", site.folder / "a b" / "y z.zarr")
    group = open_group(f"{site.url}/a b/y%20z.zarr/", made_by="x")
    np.testing.assert_array_equal(group.read("labels"), values())


def test_a_local_group_needs_no_library_for_urls_and_a_url_says_how_to_get_it(
    site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("obstore", "obstore.store", "obstore.exceptions", "urllib3"):
        monkeypatch.setitem(sys.modules, name, None)
    np.testing.assert_array_equal(open_group(site.folder / "x.zarr", made_by="x").read("labels"), values())
    np.testing.assert_array_equal(open_group(str(site.folder / "x.zarr"), made_by="x").read("labels"), values())
    the_error(lambda: opened(site), f"{site.url}/x.zarr: can't be read without", "pip install", "[remote]")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ftp://host/x.zarr", "not an address of a store"),
        ("http://", "not an address of a store"),
        ("s3:///x.zarr", "not an address of a store"),
        ("http://[::1/x.zarr", "not an address"),
        ("http://host:99999/x.zarr", "can't be opened (Port out of range 0-65535)"),
        ("https://anna:1234@host/x.zarr?token=1234", "https://host/x.zarr: followed by a query"),
    ],
)
def test_an_address_of_no_use_is_one_clear_line(url: str, found: str) -> None:
    assert "1234" not in the_error(lambda: open_group(url, made_by="x"), url.partition(":")[0] + ":", found)


def test_what_is_not_there_is_named(site: Website) -> None:
    the_error(lambda: open_group(f"{site.url}/y.zarr", made_by="x"), f"{site.url}/y.zarr/zarr.json: no such store")
    the_error(lambda: opened(site).read("logits"), f"{site.url}/x.zarr/logits/zarr.json: no such array")
    (site.folder / "x.zarr/labels/c/1/2/0").unlink()
    line = f"{site.url}/x.zarr/labels/c/1/2/0: block file is missing at its URL; put a whole store there"
    assert the_error(lambda: opened(site).read("labels")) == line
    np.testing.assert_array_equal(opened(site).read("labels", 0), values()[0])
    assert max(site.blocks().values()) == 1


def test_an_empty_block_is_an_error_and_not_kept(site: Website) -> None:
    block = site.folder / "x.zarr/labels/c/0/0/0"
    content = block.read_bytes()
    block.write_bytes(b"")
    the_error(lambda: opened(site).read("labels"), "x.zarr/labels/c/0/0/0: is empty")
    block.write_bytes(content)
    np.testing.assert_array_equal(opened(site).read("labels"), values())


@pytest.mark.parametrize("content", [b"{", b"[]", b"<html>"])
def test_what_is_no_group_is_one_clear_line(content: bytes, site: Website) -> None:
    (site.folder / "x.zarr/zarr.json").write_bytes(content)
    the_error(lambda: opened(site), f"{site.url}/x.zarr: not a readable Zarr v3 group", "put a whole store there")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_dropped_connection_is_tried_again(
    share: float, site: Website, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PIECE_BYTES", 8)  # so that some of a block is written before it is cut off
    group = opened(site)
    site.cuts, site.cut_at = downloads.TRIES - 1, share
    np.testing.assert_array_equal(group.read("labels", 0, slice(0, BLOCK)), values()[0, :BLOCK])
    assert site.blocks() == {"x.zarr/labels/c/0/0/0": downloads.TRIES}
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" (")[2] for line in lines] == ["2 of 4)", "3 of 4)", "4 of 4)"]
    assert "x.zarr/labels/c/0/0/0: the connection was dropped; trying again in 0.01 s (2 of 4)" in lines[0]


def test_a_connection_that_always_drops_is_one_clear_line_soon_and_leaves_nothing(site: Website) -> None:
    group = opened(site)
    site.cuts, begun = 1000, time.monotonic()
    found = "labels/c/0/0/0: could not be fetched after 4 tries (the connection was dropped)"
    the_error(lambda: group.read("labels"), found, "run the same command to go on")
    assert time.monotonic() - begun < 1
    assert site.blocks() == {"x.zarr/labels/c/0/0/0": downloads.TRIES}
    assert [path.name for path in group.path.rglob("*") if path.is_file()] == ["zarr.json", "zarr.json"]
    site.cuts = 0
    np.testing.assert_array_equal(group.read("labels"), values())


def test_a_server_that_does_not_answer_is_one_clear_line(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SILENCE_S", 0.1)
    monkeypatch.setattr(downloads, "TRIES", 2)
    site.silent_s = 0.3
    the_error(lambda: opened(site), "x.zarr/zarr.json: could not be fetched after 2 tries (no answer in time)")


def test_nobody_there_is_one_clear_line() -> None:
    the_error(lambda: Mirror("http://127.0.0.1:1/x.zarr"), "could not be fetched after 4 tries (connection refused)")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(status: int, site: Website) -> None:
    site.status = status
    the_error(lambda: opened(site), f"after 4 tries ({status} ")
    assert site.asked == {"x.zarr/zarr.json": downloads.TRIES}


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (401, "access refused (401 Unauthorized); fix the credentials"),
        (403, "access refused (403 Forbidden); fix the credentials"),
        (400, "could not be fetched (400 Bad Request)"),
        (410, "could not be fetched (410 Gone)"),
    ],
)
def test_a_server_that_refuses_is_not_asked_again(status: int, found: str, site: Website) -> None:
    site.status = status
    the_error(lambda: opened(site), f"{site.url}/x.zarr/zarr.json: {found}")
    assert site.asked == {"x.zarr/zarr.json": 1}


def test_a_password_in_the_address_reaches_the_server_and_no_message(site: Website) -> None:
    place = site.url.replace("//", "//anna:se%20cret@")
    group = open_group(f"{place}/x.zarr", made_by="x")
    np.testing.assert_array_equal(group.read("labels"), values())
    assert site.authorizations == {"Basic YW5uYTpzZSBjcmV0"}
    assert group.location == f"{site.url}/x.zarr"
    site.status = 500
    assert "cret" not in the_error(lambda: open_group(f"{place}/x.zarr", made_by="x"))


@pytest.mark.parametrize(
    "harm", [flip, lambda path: path.write_bytes(path.read_bytes()[:30]), lambda p: p.write_bytes(b"")]
)
@pytest.mark.parametrize("index", [(), (1, slice(10, 20))])
def test_a_damaged_file_in_the_cache_is_fetched_again(
    harm: Callable[[Path], object], index: tuple[int | slice, ...], site: Website
) -> None:
    group = opened(site)
    group.read("labels")
    harm(cached(group, "labels/c/1/1/0"))
    site.asked.clear()
    np.testing.assert_array_equal(group.read("labels", *index), values()[index or ...])
    assert site.blocks() == {"x.zarr/labels/c/1/1/0": 1}


@pytest.mark.parametrize("name", ["zarr.json", "labels/zarr.json"])
@pytest.mark.parametrize("content", [b"", b"{"])
def test_a_damaged_description_in_the_cache_is_fetched_again(name: str, content: bytes, site: Website) -> None:
    cached(opened(site), name).parent.mkdir(exist_ok=True)
    cached(opened(site), name).write_bytes(content)
    group = opened(site)
    assert group.attributes == {"seed": 0}
    np.testing.assert_array_equal(group.read("labels"), values())


def test_a_block_that_is_damaged_at_its_url_is_an_error_until_it_is_fixed(site: Website) -> None:
    block = site.folder / "x.zarr/labels/c/1/1/0"
    good = block.read_bytes()
    flip(block)
    group = opened(site)
    line = f"{site.url}/x.zarr/labels/c/1/1/0: damaged at its URL; put a whole store there"
    for _ in range(2):
        assert the_error(lambda: group.read("labels")) == line
    np.testing.assert_array_equal(group.read("labels", 0), values()[0])
    block.write_bytes(good)
    np.testing.assert_array_equal(group.read("labels"), values())


def test_a_store_that_was_replaced_at_its_url_is_read_anew(site: Website) -> None:
    before = opened(site)
    before.read("labels")
    shutil.rmtree(site.folder / "x.zarr")
    new = write(site.folder / "x.zarr", seed=1)
    after = opened(site)
    np.testing.assert_array_equal(after.read("labels"), new)
    assert after.attributes == {"seed": 1}
    assert before.path != after.path
    np.testing.assert_array_equal(before.read("labels"), values())


def test_blocks_of_a_store_that_is_replaced_while_it_is_read_are_not_mixed(site: Website) -> None:
    group = opened(site)
    group.read("labels", 0)
    shutil.rmtree(site.folder / "x.zarr")
    write(site.folder / "x.zarr", seed=1)
    the_error(lambda: group.read("labels", 1), f"{site.url}/x.zarr: was replaced while it was read")
    assert not cached(group, "labels/c/1/0/0").exists()


def test_two_addresses_of_equal_stores_have_a_mirror_each(site: Website) -> None:
    shutil.copytree(site.folder / "x.zarr", site.folder / "y" / "x.zarr")
    other = open_group(f"{site.url}/y/x.zarr", made_by="x")
    assert other.path != opened(site).path


def test_what_a_killed_process_left_behind_is_no_hindrance(site: Website) -> None:
    group = opened(site)
    left = cached(group, "labels/c/0/0/0.partial")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a bl")
    np.testing.assert_array_equal(group.read("labels"), values())
    assert not left.exists()


def test_a_cache_that_is_deleted_while_it_is_used_fills_again(site: Website) -> None:
    group = opened(site)
    group.read("labels")
    shutil.rmtree(cache_folder())
    np.testing.assert_array_equal(group.read("labels"), values())


OF_SIGNALS: dict[str, tuple[Row, dict[str, Any]]] = {
    "independent classes": (ODDS, {}),
    "embeddings": (
        {"kind": "vector_int8"},
        {"class_names": [], "signal": "vector", "num_dimensions": 6, "temperature": 1.0, "temperatures": [1.0]},
    ),
}


@pytest.mark.parametrize("name", OF_SIGNALS)
def test_a_store_of_another_signal_comes_whole_and_a_damaged_block_of_it_is_told(name: str, site: Website) -> None:
    row, changes = OF_SIGNALS[name]
    here = make(site.folder / "y.zarr", row, **changes)
    (field,) = here.encoding.fields(here.manifest.space)
    there = StoreReader(f"{site.url}/y.zarr")
    assert there.manifest == here.manifest
    assert is_sound(there)
    for view in range(here.manifest.num_views):
        assert torch.equal(there.decode(there.read_view(view), 1.0), here.decode(here.read_view(view), 1.0))
    assert max(site.blocks().values()) == 1
    flip(site.folder / f"y.zarr/{field}/c/0/0/0")
    shutil.rmtree(cache_folder())
    store = StoreReader(f"{site.url}/y.zarr")
    the_error(lambda: store.read_view(0), f"{site.url}/y.zarr/{field}/c/0/0/0: damaged at its URL")


_READER = """
import sys
from pipeline.labels.remote import open_group
group = open_group(sys.argv[1], made_by="x")
group.shape("labels")
print("ready", flush=True)
sys.stdin.readline()
print(int(group.read("labels").sum()))
"""


def test_processes_that_share_a_cache_fetch_each_block_once(site: Website) -> None:
    command = [sys.executable, "-c", _READER, f"{site.url}/x.zarr"]
    environment = os.environ | {"PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        site.silent_s = 0.05
        other.stdin.write("go\n")
        other.stdin.flush()
        np.testing.assert_array_equal(opened(site).read("labels"), values())
        out, err = other.communicate(timeout=60)
    assert (out.strip(), err) == (str(values().sum()), "")
    assert site.blocks() == dict.fromkeys(BLOCKS, 1)


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("POTSTILL_CACHE", "~/kept")
    assert cache_folder() == Path("/home/anna/kept")
    monkeypatch.delenv("POTSTILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/anna")
    assert cache_folder() == Path("/var/anna/potstill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/anna/.cache/potstill")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Starts the endpoint of an S3-compatible server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Returns the URL of a store in a private bucket; credentials and endpoint are in the
    environment.
    """
    import obstore
    from obstore.store import S3Store

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anna")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    ask(f"{moto}/bucket", "PUT")
    write(tmp_path / "x.zarr")
    store = S3Store.from_url("s3://bucket/labels", client_options={"allow_http": True})
    for path in (tmp_path / "x.zarr").rglob("*"):
        if path.is_file():
            obstore.put(store, path.relative_to(tmp_path).as_posix(), path)
    yield "s3://bucket/labels/x.zarr"
    ask(f"{moto}/moto-api/reset", "POST")


def ask(url: str, method: str, body: bytes | None = None) -> None:
    request = urllib.request.Request(url, method=method, data=body, headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(request).close()


def test_a_store_in_a_bucket_is_read_and_kept(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group = open_group(bucket, made_by="x")
    np.testing.assert_array_equal(group.read("labels"), values())
    assert group.location == bucket
    flip(cached(group, "labels/c/1/1/0"))
    np.testing.assert_array_equal(open_group(bucket, made_by="x").read("labels"), values())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    np.testing.assert_array_equal(group.read("labels"), values())


def test_what_is_not_in_a_bucket_is_named(bucket: str) -> None:
    the_error(lambda: Mirror(f"{bucket}2"), f"{bucket}2/zarr.json: no such store")
    the_error(lambda: Mirror("s3://cellar/x.zarr"), "s3://cellar/x.zarr/zarr.json: no such store")


def test_a_bucket_without_credentials_is_asked_anonymously(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    the_error(
        lambda: Mirror(bucket), "access refused (403 Forbidden); asked without credentials", "set AWS_ACCESS_KEY_ID"
    )


def test_wrong_credentials_are_one_clear_line(bucket: str, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(f"{moto}/moto-api/reset-auth", "POST", b"0")  # from now on, it checks who asks
    try:
        the_error(lambda: Mirror(bucket), f"{bucket}/zarr.json: access refused (403 Forbidden, InvalidAccessKeyId)")
    finally:
        ask(f"{moto}/moto-api/reset-auth", "POST", b"inf")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    the_error(lambda: Mirror(bucket), "s3://bucket", "SecretAccessKey")
