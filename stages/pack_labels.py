"""pack_labels: a store as one file for others, with a card (`pack`, `card`), and the file as a
store again (`unpack`).

A command, not a stage of the DAG. What only the store's owner knows comes by options; the card has
what is missing as not stated.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.files import write_bytes
from pipeline.core.progress import show
from pipeline.labelling.card import OwnersWords, store_card
from pipeline.labelling.packing import need_new, pack_store, unpack_store
from pipeline.labels.reader import StoreReader

Store = Annotated[str, typer.Argument(help="A store: a folder, a packed file, or the URL of one.")]
Licence = Annotated[str | None, typer.Option(help="The licence of the labels, such as CC-BY-4.0.")]
Author = Annotated[str | None, typer.Option(help="The author, or how to reach one.")]
Data = Annotated[str | None, typer.Option(help="The name of the data set, and its version.")]
Images = Annotated[str | None, typer.Option(help="How to get the images, and how they were prepared.")]
Prepared = Annotated[Path | None, typer.Option(help="data/prepare, for the shape of the images.")]


def pack(
    store: Store,
    out: Annotated[Path, typer.Option(help="The new file; its name ends in .zip.")],
    licence: Licence = None,
    author: Author = None,
    data: Data = None,
    images: Images = None,
    prepared: Prepared = None,
) -> None:
    """Checks a store and packs it into one file, with a card."""
    reader = StoreReader(store)
    pack_store(reader, store_card(reader, OwnersWords(licence, author, data, images), prepared), out)
    unstated = [f"--{name}" for name, value in {"licence": licence, "images": images}.items() if value is None]
    told = f"; the card lacks {' and '.join(unstated)}" if unstated else ""
    show(f"{out}: {out.stat().st_size:,} bytes, {reader.manifest.num_labels:,} labels{told}")


def card(
    store: Store,
    out: Annotated[Path | None, typer.Option(help="A new file; by default it is printed.")] = None,
    licence: Licence = None,
    author: Author = None,
    data: Data = None,
    images: Images = None,
    prepared: Prepared = None,
) -> None:
    """Prints the card of a store, as Markdown."""
    text = store_card(StoreReader(store), OwnersWords(licence, author, data, images), prepared)
    if out is None:
        show(text.rstrip("\n"))
        return
    need_new(out)
    write_bytes(out, text.encode())
    show(f"{out}: written")


def unpack(
    store: Annotated[str, typer.Argument(help="A packed store: a file or its URL.")],
    out: Annotated[Path, typer.Option(help="The folder to make, such as soft.zarr.")],
) -> None:
    """Makes a folder of a packed store, and checks every label in it."""
    reader = unpack_store(store, out)
    show(f"{out}: {reader.manifest.num_labels:,} labels, all whole")


if __name__ == "__main__":
    run_stage(pack, unpack, card)
