"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 pixels in ten classes.

Four places are tried, the first one that has it wins:

1. `raw`, the folder for downloads.
2. The folder in which Debian's package installs it.
3. The mirrors that torchvision names, by download.
4. Debian's package, fetched and unpacked, not installed.

Each file's uncompressed content is checked against its SHA-256, so it does not matter where it came
from: the packers' gzip headers differ, the content does not.

References:
    Han Xiao, Kashif Rasul, Roland Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms", 2017, arXiv 1708.07747.
"""

import gzip
import hashlib
import logging
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.core.files import write_bytes
from pipeline.core.progress import say
from pipeline.preparation.sources.inputs import need_file
from pipeline.preparation.sources.labels import Classes
from pipeline.preparation.sources.pixels import PixelSource, PixelSplit

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SHA256 = {  # of the uncompressed IDX files
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# The bucket that torchvision's `FashionMNIST.mirrors` names: over HTTPS, then the very address it
# publishes.
MIRRORS = (
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
_TIMEOUT_SECONDS = 20
_MOST_BYTES = 64 << 20  # of an unpacked file; the largest has 47,040,016


@dataclass(frozen=True, config=STRICT)
class FashionMnist(PixelSource):
    """The data set from the first place that has it; without one, SourceError lists the places, and
    a line before it says what was wrong with each.
    """

    kind: ClassVar[str] = "fashion_mnist"

    def load(self, raw: Path) -> tuple[Classes, list[PixelSplit]]:
        """Finds or fetches the four files."""
        content = _find(raw / self.kind)
        return Classes(CLASS_NAMES), [_split(content, "train", "train"), _split(content, "test", "t10k")]


def _split(content: dict[str, bytes], split: str, name: str) -> PixelSplit:
    images = np.frombuffer(content[f"{name}-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(content[f"{name}-labels-idx1-ubyte"], np.uint8, offset=8)
    return PixelSplit(split, images, labels, f"{name}-images-idx3-ubyte")


def _find(raw: Path) -> dict[str, bytes]:
    """Returns the content of each file, from the first place that has all of them."""
    places: list[tuple[str, Callable[[], Path]]] = [
        (str(raw), lambda: raw),
        (str(SYSTEM_FOLDER), lambda: SYSTEM_FOLDER),
        ("download", lambda: _download(raw)),
        (f"Debian package {DEBIAN_PACKAGE}", lambda: _unpack_debian_package(raw)),
    ]
    for name, fetch in places:
        try:
            content = _read_folder(fetch())
        except SourceError as error:
            say(f"fashion_mnist: not from {name}: {error}")
            continue
        say(f"fashion_mnist: from {name}, every file as expected (SHA-256)")
        return content
    fix = f"connect to a network, put the four *-ubyte.gz files into {raw}, or install {DEBIAN_PACKAGE}"
    found = f"in none of {len(places)} places; a line for each above says why"
    raise SourceError("source 'fashion_mnist'", found, fix=f"{fix}, then run the same command again")


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {name: _read_checked(folder, name) for name in SHA256}


def _read_checked(folder: Path, name: str) -> bytes:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
    if path is None:
        raise SourceError(folder / f"{name}.gz", "no such file")
    try:
        need_file(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(path, f"truncated or damaged ({error})", fix="delete it") from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise SourceError(path, f"SHA-256 {found[:12]}...", expected=f"{SHA256[name][:12]}...", fix="delete it")
    return content


def _download(raw: Path) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise SourceError("download", f"pooch can't be imported ({error})") from None
    pooch.get_logger().setLevel(logging.ERROR)
    failures = []
    for mirror in MIRRORS:
        try:
            with tempfile.TemporaryDirectory() as folder:
                for name in SHA256:
                    say(f"fashion_mnist: downloading {mirror}{name}.gz")
                    downloader = pooch.HTTPDownloader(timeout=_TIMEOUT_SECONDS)
                    pooch.retrieve(f"{mirror}{name}.gz", None, f"{name}.gz", folder, downloader=downloader)
                return _keep(Path(folder), raw)
        except (OSError, ValueError, SourceError) as error:  # requests' errors are OSErrors
            failures.append(f"{mirror}: {_short(error)}")
    raise SourceError("download", ", ".join(failures))


def _unpack_debian_package(raw: Path) -> Path:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SourceError("apt-get", "not on this machine", expected="Debian or Ubuntu")
    say(f"fashion_mnist: fetching the Debian package {DEBIAN_PACKAGE} (31 MB; it is not installed)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # With its own lists and cache apt works without root, and when the machine's lists were
        # never fetched.
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        own = [
            "-o",
            f"Dir::State::Lists={folder}/lists",
            "-o",
            f"Dir::Cache={folder}/cache",
            "-o",
            "Debug::NoLocking=1",
        ]
        _run(["apt-get", "-q", *own, "update"], folder)
        _run(["apt-get", "-q", *own, "download", DEBIAN_PACKAGE], folder)
        package = next(folder.glob("*.deb"), None)
        if package is None:
            raise SourceError("apt-get download", "brought no .deb file")
        _run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
        return _keep(folder / "unpacked" / SYSTEM_FOLDER.relative_to("/"), raw)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or error.stdout).splitlines() if line.strip()]
        raise SourceError(" ".join(command[:1] + command[-2:]), lines[-1] if lines else "failed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(" ".join(command[:1] + command[-2:]), _short(error)) from None


def _keep(folder: Path, raw: Path) -> Path:
    """Checks files and copies them to `raw`, so that the next run finds them there."""
    _read_folder(folder)
    for name in SHA256:
        write_bytes(raw / f"{name}.gz", (folder / f"{name}.gz").read_bytes())
    return raw


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"
