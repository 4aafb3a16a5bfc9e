"""A store made one file for others, and the file made a store again; each is checked as a whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from pipeline.core.arrays import DESCRIPTION
from pipeline.core.errors import StoreError
from pipeline.core.files import sync_folder, write_bytes
from pipeline.core.progress import progress
from pipeline.labels.fetched import open_packed
from pipeline.labels.packed import CARD, SUFFIX
from pipeline.labels.reader import StoreReader
from pipeline.labels.servers import is_url

_UNIX, _READABLE = 3, 0o644 << 16


def pack_store(store: StoreReader, card: str, out: Path) -> None:
    """Writes a store and its card to one file, whose bytes follow from these alone.

    Raises:
        StoreError: Where `out` exists or is not named as a packed store, or where the store is
            not whole.
    """
    if not out.name.lower().endswith(SUFFIX):
        raise StoreError(out, "not the name of a packed store", expected=f"a name that ends in {SUFFIX}")
    need_new(out)
    check_store(store, "pack")
    names = sorted({*store.files()} - {DESCRIPTION})
    with _partial(out) as partial, partial.open("xb") as file:
        with ZipFile(file, "w", ZIP_STORED) as packed:
            for name in (DESCRIPTION, CARD, *names):  # a reader at a URL reads the first member alone
                content = card.encode() if name == CARD else (store.path / name).read_bytes()
                packed.writestr(_member(name), content)
        file.flush()
        os.fsync(file.fileno())


def unpack_store(place: str, out: Path) -> StoreReader:
    """Makes a folder of a packed store at a path or URL, and returns the store there.

    Raises:
        StoreError: Where `out` exists, or where the store is not whole, or has other files beside.
    """
    if is_url(str(out)) or out.name.lower().endswith(SUFFIX):
        raise StoreError(out, "not the name of a store", expected="a folder that does not exist yet")
    need_new(out)
    with _partial(out) as partial:
        partial.mkdir()
        with open_packed(place, partial) as packed:
            for name in packed.names:
                write_bytes(partial / name, packed.read(name))
        try:
            store = StoreReader(partial)
            check_store(store, "unpack")
        except StoreError as error:
            found = str(error).removeprefix(str(partial)).partition(";")[0].lstrip("/: ")
            raise StoreError(place, f"holds a store that is not whole ({found})", fix="pack a whole one") from None
        if foreign := sorted({*packed.names} - {*store.files(), CARD}):
            raise StoreError(place, f"holds {foreign[0]}, which is no file of its store", fix="pack the store again")
    return StoreReader(out)


def check_store(store: StoreReader, task: str) -> None:
    """Reads every block of a store; raises StoreError where one is missing or damaged."""
    store.check_whole()
    num_blocks = len(store.manifest.blocks()) + bool(store.encoding.anchor_views) * store.manifest.blocks_per_view
    with progress(task, num_blocks, "block") as on_blocks:
        for _, fault in store.check():
            if fault is not None:
                raise fault
            on_blocks(1)


def need_new(out: Path) -> None:
    """Raises StoreError where there is something at a path already."""
    if out.exists():
        raise StoreError(out, "exists already", expected="a new name", fix="delete it or choose another one")


def _member(name: str) -> ZipInfo:
    """Returns a member without a time, readable on any system."""
    info = ZipInfo(name)
    info.create_system, info.external_attr = _UNIX, _READABLE
    return info


@contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """Gives the path of what becomes `out` at the end; what is there after an error is deleted."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise
    sync_folder(out.parent)
