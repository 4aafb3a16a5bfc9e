"""Pipes and devices in place of files, and files that unpack to more than they may: one line, soon,
from each kind of source.
"""

import gzip
import io
import os
import signal
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from image_files import image_file, source, write_tar

from pipeline.core import memory
from pipeline.core.errors import DataError, ModelError, SourceError
from pipeline.data.file_content import DecodeError, read
from pipeline.labelling.imported_logits import read_logits
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.inputs import look_at
from pipeline.preparation.sources.table import Table

PIPE = "no file (a pipe, a socket or a device)"


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Ends a test that hangs in a pipe."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(20)
    yield
    signal.alarm(0)


def arrays(here: Path) -> None:
    for name, array in {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4)}.items():
        np.save(here / f"train_{name}.npy", array)


SOURCES: dict[str, tuple[str, Callable[[Path], Source]]] = {
    "webdataset": ("x.tar", lambda here: source("webdataset", here)),
    "a gzipped tar": ("x.tgz", lambda here: source("webdataset", here)),
    "parquet": ("x.parquet", lambda here: source("parquet", here)),
    "idx": ("train-images-idx3-ubyte", lambda here: source("idx", here)),
    "npz": ("x.npz", lambda here: source("arrays", here / "x.npz")),
    "npy": ("train_images.npy", lambda here: source("arrays", here)),
    "cifar": ("train.bin", lambda here: source("cifar", here)),
    "a table": ("x.csv", lambda here: source("manifest", here / "x.csv")),
    "class names": ("names.txt", lambda here: source("arrays", here, classes=str(here / "names.txt"))),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_a_pipe_or_device_in_place_of_a_file_is_told_and_not_opened(
    make: Callable[[Path], object], kind: str, tmp_path: Path
) -> None:
    name, built = SOURCES[kind]
    arrays(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 4) + bytes(4))
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    with pytest.raises(SourceError, match=r"no file \(a pipe"):
        built(tmp_path).class_names(tmp_path)


def test_a_pipe_among_the_images_of_a_folder_is_left_out_and_told(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(image_file(0))
    os.mkfifo(tmp_path / "cat" / "2")
    found = source("folder", tmp_path)
    assert found.class_names(tmp_path) == ("cat", "dog")
    assert f"1 files left out: {PIPE}, e.g. 'cat/2'" in found.notes.lines()


def test_a_pipe_in_a_table_is_told_before_it_is_opened_and_is_a_broken_image(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label\n1.png,0\npipe.png,1\n")
    (tmp_path / "1.png").write_bytes(image_file(0))
    os.mkfifo(tmp_path / "pipe.png")
    table = source("manifest", tmp_path / "x.csv")
    assert isinstance(table, Table)
    with pytest.raises(SourceError, match=r"pipe\.png: no file"):
        look_at(table.files())
    *_, last = table.images(tmp_path)
    with pytest.raises(DecodeError, match="no file"):
        read(last.content)


def test_an_image_file_of_terabytes_is_broken_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "1.png").open("wb") as file:
        file.truncate(1 << 41)
    with pytest.raises(DecodeError, match="2,199,023,255,552 bytes, of at most 1,073,741,824"):
        read(tmp_path / "1.png")


def idx_bomb(here: Path) -> Path:
    """Writes 64 MB of zeros behind a header of 4 images, and labels."""
    with gzip.open(here / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">HBBIII", 0, 8, 3, 4, 8, 8) + bytes(1 << 26))
    (here / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 4) + bytes(4))
    return here


def test_a_packed_idx_file_is_unpacked_as_far_as_its_header_says(tmp_path: Path) -> None:
    expected = r"273 bytes or more; expected 16 and those of an array of \(4, 8, 8\)"
    with pytest.raises(SourceError, match=expected):
        source("idx", idx_bomb(tmp_path)).class_names(tmp_path)


def test_a_packed_idx_file_that_claims_too_much_is_not_unpacked(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">HBBIII", 0, 8, 3, 1 << 31, 1 << 15, 1 << 15))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 4) + bytes(4))
    with pytest.raises(SourceError, match=r"it would take 2,305,843,009\.2 GB of memory"):
        source("idx", tmp_path).class_names(tmp_path)
    with pytest.raises(SourceError, match=r"of at most 100 MiB \(`largest_mb`\)"):
        source("idx", tmp_path, largest_mb=100).class_names(tmp_path)


def npz(path: Path, header: bytes, content: bytes) -> Path:
    """Writes an .npz file of the arrays that a data set has, each of a header and some content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("train_images", "train_labels", "logits", "ids"):
            file.writestr(f"{name}.npy", header + content)
    return path


def npy_header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("header", "content", "found"),
    [
        (npy_header((1 << 40, 8, 8)), b"", "its header claims 70,368,744,177,664 bytes, and 0 are packed"),
        (npy_header((4, 8, 8)), bytes(1 << 21), "its header claims 256 bytes, and 2,097,152 are packed"),
        (npy_header((1 << 15, 8, 8)), bytes(1 << 21), r"it would take 0\.0 GB of memory, and this machine has 0\.0"),
        (b"\x93NUMPY\x09\x00" + npy_header((4,))[8:], bytes(4), r"version"),
        (npy_header((4,), "|O"), bytes(32), "Python objects"),
    ],
    ids=["claims", "bomb", "honest", "version", "objects"],
)
def test_an_npz_file_is_unpacked_as_far_as_its_headers_say(
    header: bytes, content: bytes, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "machine_bytes", lambda: 1 << 20)
    path = npz(tmp_path / "x.npz", header, content)
    for act in (
        lambda: source("arrays", path).class_names(tmp_path),
        lambda: read_logits(path, None, tmp_path / "samples.tsv", are_probabilities=False),
    ):
        with pytest.raises((SourceError, ModelError, DataError), match=found):
            act()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_member_larger_than_its_setting_is_refused_before_it_is_unpacked(suffix: str, tmp_path: Path) -> None:
    content = {"1.png": image_file(0), "1.cls": b"0", "2.png": bytes(3 << 20), "2.cls": b"1"}
    write_tar(tmp_path / f"x{suffix}", content.items())
    line = r"2\.png: a member of 3,145,728 bytes; expected at most 2 MiB; set `largest_mb`"
    with pytest.raises(SourceError, match=line):
        source("webdataset", tmp_path, largest_mb=2).class_names(tmp_path)
    assert source("webdataset", tmp_path).class_names(tmp_path) == ("0", "1")


def test_a_name_of_a_member_that_claims_to_be_long_is_not_unpacked(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    (tmp_path / "x.tgz").write_bytes(gzip.compress(member.tobuf() + bytes(1 << 24)))
    with pytest.raises(SourceError, match=r"x\.tgz: not a sound tar \(a part of 4,294,967,296 bytes\)"):
        source("webdataset", tmp_path).class_names(tmp_path)
