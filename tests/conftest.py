"""The set-up of all tests: shapes checked at run time, one thread, no network, no flushes."""

import gc
import os
import re
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import numpy as np
import pytest
from typecheck import check_arrays
from zarr_here import AsyncioHere

if TYPE_CHECKING:
    from made import Made

TOP = Path(__file__).parents[1]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # Checks cost: only functions that name arrays have them, and mypy checks all other types.
    _files = {path for folder in ("pipeline", "stages") for path in (TOP / folder).rglob("*.py")}
    _shaped = [path for path in _files if "from jaxtyping import" in path.read_text()]
    jaxtyping.jaxtyped = check_arrays  # type: ignore[assignment]
    jaxtyping.install_import_hook(
        [".".join(path.relative_to(TOP).with_suffix("").parts) for path in _shaped], "typecheck.check"
    )
    import torch
    import zarr.core.sync

    from pipeline.data.sample_ids import sample_ids
    from pipeline.data.splits import SplitInMemory
    from pipeline.profiling import latency
    from pipeline.profiling.probe import measure
    from pipeline.views.operations.flips import FlipHorizontal
    from pipeline.views.operations.pad_crop import PadCrop
    from pipeline.views.spec import ViewSpec

torch.set_num_threads(1)
zarr.core.sync.asyncio = AsyncioHere()  # type: ignore[assignment]

# The longest first, so that no process is left alone with one at the end.
_LONGEST = [
    "test_dag.py",
    "test_distributed.py",
    "test_recipes.py",
    "test_faults.py",
    "test_commands.py",
    "test_stages.py",
    "test_doctor.py",
    "test_export.py",
    "test_loops.py",
]


# What differs by process: the order of a set's members, an address. Workers that run one suite must
# agree about the names of its tests; one process alone would not see it.
_UNSTABLE = re.compile(r"set\(\{| at 0x")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _UNSTABLE.search(item.name):
            raise pytest.UsageError(f"{item.nodeid}: a name that differs by process; expected ids of one order")
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


def pytest_collection_finish() -> None:
    """Leaves out what is loaded by now, a million objects that stay, when garbage is looked for: in
    this process and in those that tests fork from it, which would copy their pages.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def unflushed() -> Iterator[None]:
    """Makes writes not wait for the disk: 2 to 8 ms for each of thousands of small files.

    A flush matters only when a machine loses its power. A killed process loses nothing without it,
    so the tests that kill, fill a disk or count flushes put their own in this one's place and see
    the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, unflushed: None) -> "Made":
    """Returns the results of stages that tests share, in a folder for all workers of this run."""
    from made import Made

    base = tmp_path_factory.getbasetemp()
    return Made((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made")


@pytest.fixture(scope="module", autouse=True)
def measured_here() -> Iterator[None]:
    """Measures what a network costs in this process: a fresh one needs 2 seconds to import torch.

    tests/profiling and the tests of the DAG start fresh ones, as users do.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_probe", measure)
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test as soon as it reaches for the network; loopback and local sockets work."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and str(address[0]) not in {"127.0.0.1", "::1", "localhost"}:  # type: ignore[index]
            raise OSError(f"no network in tests: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", refuse)


def make_split(
    count: int = 64, *, shape: tuple[int, int, int] = (1, 12, 12), classes: int = 4, seed: int = 0
) -> SplitInMemory:
    """Makes random images whose brightest quarter is the class, which a small network learns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    images = rng.integers(0, 96, size=(count, *shape), dtype=np.uint8)
    height, width = shape[1] // 2, shape[2] // 2
    for image, label in zip(images, labels, strict=True):
        top, left = (label // 2 % 2) * height, (label % 2) * width
        image[:, top : top + height, left : left + width] += 128
    return SplitInMemory(torch.from_numpy(images), torch.from_numpy(labels), sample_ids(images))


def make_tagged_split(
    count: int = 64, *, shape: tuple[int, int, int] = (1, 12, 12), unknown: float = 0.0, seed: int = 0
) -> SplitInMemory:
    """Makes random images of which any quarters are bright: independent classes, an entry of 0 or 1
    for each quarter.

    Args:
        unknown: The share of the entries that are -1 (unknown) in place of 0 or 1.
    """
    rng = np.random.default_rng(seed)
    tags = rng.integers(0, 2, size=(count, 4), dtype=np.int8)
    images = rng.integers(0, 96, size=(count, *shape), dtype=np.uint8)
    height, width = shape[1] // 2, shape[2] // 2
    for quarter in range(4):
        top, left = quarter // 2 * height, quarter % 2 * width
        images[tags[:, quarter] == 1, :, top : top + height, left : left + width] += 128
    tags[rng.random(tags.shape) < unknown] = -1
    return SplitInMemory(torch.from_numpy(images), torch.from_numpy(tags), sample_ids(images))


@pytest.fixture(scope="session")
def split() -> SplitInMemory:
    return make_split()


@pytest.fixture
def spec() -> ViewSpec:
    return ViewSpec(seed=5, plain_first=False, operations=(PadCrop(pad_px=2), FlipHorizontal(probability=0.5)))


@pytest.fixture(scope="session")
def tagged_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a trained project of independent classes, to be copied and never changed."""
    from tagged import make_tagged_project

    return make_tagged_project(tmp_path_factory.mktemp("tagged"))
