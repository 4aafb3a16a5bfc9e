"""Raw images come from the first place that has them whole; else one error names every place and
the fixes.
"""

import gzip
import hashlib
import os
import re
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import ConfigError, SourceError
from pipeline.preparation.sources import SOURCES, build_source, fashion_mnist
from pipeline.preparation.sources.base import RawImage

PIXELS = {
    split: np.random.default_rng(n).integers(0, 256, (n, 28, 28), np.uint8) for split, n in (("train", 6), ("t10k", 3))
}
LABELS = {"train": np.array([0, 9, 1, 2, 3, 3], np.uint8), "t10k": np.array([3, 0, 9], np.uint8)}
CONTENT = {
    name: content
    for split in ("train", "t10k")
    for name, content in (
        (
            f"{split}-images-idx3-ubyte",
            struct.pack(">IIII", 2051, len(PIXELS[split]), 28, 28) + PIXELS[split].tobytes(),
        ),
        (f"{split}-labels-idx1-ubyte", struct.pack(">II", 2049, len(LABELS[split])) + LABELS[split].tobytes()),
    )
}
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENT.items()}
IMAGES = "train-images-idx3-ubyte.gz"


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def damaged(how: str) -> dict[str, bytes]:
    bad = {
        "truncated": PACKED[IMAGES][:-20],
        "not gzip": b"<html>",
        "other content": gzip.compress(b"other", mtime=0),
        "flipped": bytes([*PACKED[IMAGES][:40], PACKED[IMAGES][40] ^ 1, *PACKED[IMAGES][41:]]),
    }
    return PACKED | {IMAGES: bad[how]}


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a Fashion-MNIST of nine images that is nowhere: no folder, no mirror, no Debian."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", digests)
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fashion_mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def load(kind: str, raw: Path) -> tuple[tuple[str, ...], list[RawImage]]:
    """Class names and all images of a source without settings."""
    source = build_source({"kind": kind}, "prepare.source")
    images = list(source.images(raw))
    assert source.count(raw) == len(images)
    return source.class_names(raw), images


def pixels(images: list[RawImage], split: str) -> np.ndarray:
    return np.stack([np.asarray(image.content) for image in images if image.split == split])


def assert_is_tiny(found: tuple[tuple[str, ...], list[RawImage]]) -> None:
    names, images = found
    assert names[9] == "Ankle boot"
    for split, name in (("train", "train"), ("test", "t10k")):
        np.testing.assert_array_equal(pixels(images, split)[:, 0], PIXELS[name])
        assert [image.label for image in images if image.split == split] == [names[n] for n in LABELS[name]]
    assert [images[1].key, images[7].key] == ["train-images-idx3-ubyte:1", "t10k-images-idx3-ubyte:1"]


@pytest.fixture
def mirror() -> Iterator[Callable[..., str]]:
    """Serves files on the loopback; `cut` bytes of each are promised but not sent."""
    servers = []

    def serve(files: dict[str, bytes], cut: int = 0) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = files.get(self.path.removeprefix("/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write((content or b"")[: len(content or b"") - cut])

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], fault: str = "") -> None:
    """Installs an apt-get and a dpkg-deb that bring `files`, or stop with `fault`."""
    put(tmp_path / "package", files)
    (tmp_path / "bin").mkdir()
    inside = Path("unpacked") / fashion_mnist.SYSTEM_FOLDER.relative_to("/")
    stop = f'echo "W: a warning" >&2; echo "{fault}" >&2; exit 100' if fault else ""
    scripts = {
        "apt-get": f'case "$*" in *" download "*) {stop or ": > dataset.deb"};; esac',
        "dpkg-deb": f'mkdir -p "{inside}" && cp "{tmp_path}"/package/* "{inside}"',
    }
    for name, body in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")


def test_digits_come_with_the_package_as_grey_images_of_full_range(tmp_path: Path) -> None:
    names, images = load("digits", tmp_path)
    assert names == tuple("0123456789")
    assert (pixels(images, "train").shape, pixels(images, "test").shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert (pixels(images, "train").min(), pixels(images, "train").max()) == (0, 255)
    for split in ("train", "test"):
        assert {image.label for image in images if image.split == split} == set(names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"kind": "fashion-mnist"}, r"x\.kind: 'fashion-mnist'; expected one of: .*did you mean 'fashion_mnist'"),
        ("digits", "x: 'digits'; expected a map with `kind`, one of: fashion_mnist, fashion_scenes, digits, folder"),
        ({"path": "a"}, "x: .*expected a map with `kind`"),
        ({"kind": "folder"}, r"x\.path: this key is missing"),
        (
            {"kind": "folder", "paht": "a"},
            r"x\.paht: unknown key; expected one of: path, layout, classes, leave_out, kind \(did you mean 'path'\?\)",
        ),
        ({"kind": "digits", "path": "a"}, r"x\.path: unknown key"),
        ({"kind": "cifar", "path": "a", "labels": "rough"}, r"x\.labels: 'rough' \(str\); expected 'fine' or 'coarse'"),
        ({"kind": "arrays", "path": "a", "layout": "hwc"}, r"x\.layout: 'hwc'"),
    ],
)
def test_settings_that_fit_no_source_are_told_by_their_key(row: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build_source(row, "x")


def test_a_source_is_registered_by_its_own_kind() -> None:
    assert {name: kind.kind for name, kind in SOURCES.items()} == {name: name for name in SOURCES}


@pytest.mark.parametrize("files", [PACKED, CONTENT], ids=["packed", "unpacked"])
def test_files_in_raw_are_used_before_all_others(
    files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "raw" / "fashion_mnist", files)
    put(tmp_path / "system", PACKED)
    assert_is_tiny(load("fashion_mnist", tmp_path / "raw"))
    assert f"from {tmp_path / 'raw' / 'fashion_mnist'}," in capsys.readouterr().err


def test_files_of_an_installed_package_are_used_before_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "system", PACKED)
    assert_is_tiny(load("fashion_mnist", tmp_path / "raw"))
    told = capsys.readouterr().err
    assert f"from {tmp_path / 'system'}," in told
    assert "downloading" not in told


@pytest.mark.parametrize("how", ["truncated", "not gzip", "other content", "flipped"])
def test_a_damaged_file_is_passed_over_for_the_next_place(how: str, tmp_path: Path) -> None:
    put(tmp_path / "raw" / "fashion_mnist", damaged(how))
    put(tmp_path / "system", PACKED)
    assert_is_tiny(load("fashion_mnist", tmp_path / "raw"))


@pytest.mark.parametrize(
    ("how", "told"),
    [("truncated", "truncated or damaged"), ("not gzip", "truncated or damaged"), ("other content", "SHA-256")],
)
def test_nothing_found_is_one_error_with_every_fix_after_a_line_for_each_place(
    how: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw" / "fashion_mnist"
    put(raw, damaged(how))
    with pytest.raises(SourceError) as error:
        load("fashion_mnist", tmp_path / "raw")
    line = str(error.value)
    assert "\n" not in line
    for fix in (f"files into {raw}", "connect to a network", "install dataset-fashion-mnist"):
        assert fix in line
    said = capsys.readouterr().err
    assert f"{raw / IMAGES}: {told}" in said
    for place in (
        tmp_path / "system",
        "download: download: http://127.0.0.1:9",
        "Debian package dataset-fashion-mnist",
    ):
        assert f"not from {place}" in said


def test_a_download_is_kept_in_raw_and_not_fetched_again(
    tmp_path: Path, mirror: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (mirror(PACKED),))
    assert_is_tiny(load("fashion_mnist", tmp_path / "raw"))
    monkeypatch.setattr(fashion_mnist, "MIRRORS", ())
    assert_is_tiny(load("fashion_mnist", tmp_path / "raw"))


@pytest.mark.parametrize("how", ["cut", "truncated", "not gzip", "other content", "nothing there"])
def test_a_bad_download_leaves_nothing_in_raw(
    how: str,
    tmp_path: Path,
    mirror: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {"cut": PACKED, "nothing there": {}}[how] if how in {"cut", "nothing there"} else damaged(how)
    url = mirror(files, cut=30 if how == "cut" else 0)
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (url,))
    with pytest.raises(SourceError):
        load("fashion_mnist", tmp_path / "raw")
    assert f"not from download: download: {url}" in capsys.readouterr().err
    assert [path for path in (tmp_path / "raw").rglob("*") if path.is_file()] == []


def test_a_mirror_that_fails_is_passed_over_for_the_next(
    tmp_path: Path, mirror: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (mirror(damaged("truncated")), mirror(PACKED)))
    assert_is_tiny(load("fashion_mnist", tmp_path / "raw"))


def test_the_debian_package_is_unpacked_to_raw_where_nothing_else_has_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian(tmp_path, monkeypatch, PACKED)
    assert_is_tiny(load("fashion_mnist", tmp_path / "raw"))
    assert "from Debian package" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "raw" / "fashion_mnist").iterdir()} == set(PACKED)


def test_a_debian_package_that_can_not_be_fetched_is_told_by_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian(tmp_path, monkeypatch, PACKED, fault="E: Unable to locate package")
    with pytest.raises(SourceError) as error:
        load("fashion_mnist", tmp_path / "raw")
    assert "\n" not in str(error.value)
    assert "E: Unable to locate package" in capsys.readouterr().err


def test_a_debian_package_with_other_content_leaves_nothing_in_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian(tmp_path, monkeypatch, damaged("other content"))
    with pytest.raises(SourceError):
        load("fashion_mnist", tmp_path / "raw")
    assert "SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_a_package_manager_that_hangs_is_one_of_the_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(command: list[str], **settings: float) -> None:
        raise subprocess.TimeoutExpired(command, settings["timeout"])

    debian(tmp_path, monkeypatch, PACKED)
    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(SourceError):
        load("fashion_mnist", tmp_path / "raw")
    assert re.search("Debian package.*apt-get.*TimeoutExpired", capsys.readouterr().err)
