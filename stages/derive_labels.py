"""derive_labels: stores made from finished stores, without a teacher: `subset`, `merge` and `average`.

A command, not a stage of the DAG. A killed one goes on where it stopped when it is run again.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import UInt64

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows
from pipeline.core.errors import ConfigError, DataError, StoreError, suggest
from pipeline.core.files import fingerprint
from pipeline.core.progress import progress
from pipeline.core.scratch import WORK, Scratch
from pipeline.labelling import derive as derivation
from pipeline.labels.encodings import Encoding, build_encoding
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.remote import is_url

Make = Callable[[Path, Path, Callable[[int], object]], Manifest]
Stores = Annotated[list[str], typer.Argument(metavar="A B ... OUT", help="Stores (folders or URLs), then the new one.")]
Work = Annotated[Path, typer.Option(help="For unfinished work; on the same file system as OUT.")]


def subset(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A store: a folder or a URL.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="The new store.")],
    views: Annotated[str | None, typer.Option(help="Numbers of views, such as 0,2; by default all.")] = None,
    samples: Annotated[Path | None, typer.Option(help="A file of sample ids, 16 hex digits in a line.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="The first so many samples.")] = None,
    work: Work = WORK,
) -> None:
    """Some views of some samples of a store."""
    store = StoreReader(source)
    numbers = store.manifest.view_numbers if views is None else _numbers(views)
    ids = _chosen(store, samples, first)
    _derive(
        "subset",
        [store],
        out,
        work,
        {"views": numbers, "samples": [f"{i:016x}" for i in ids.tolist()]},
        len(numbers) * len(ids),
        lambda path, records, tell: derivation.subset(
            store, path, records, views=numbers, sample_ids=ids, on_labels=tell
        ),
    )


def merge(places: Stores, work: Work = WORK) -> None:
    """All views of all samples of several stores of one teacher and encoding."""
    stores, out = _open(places)
    views = {view for store in stores for view in store.manifest.view_numbers}
    count = len(np.unique(np.concatenate([store.sample_ids for store in stores])))
    _derive(
        "merge",
        stores,
        out,
        work,
        {},
        len(views) * count,
        lambda path, records, tell: derivation.merge(stores, path, records, tell),
    )


def average(
    places: Stores,
    weights: Annotated[str | None, typer.Option(help="One per store, such as 0.7,0.3; by default equal.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="A row of `encodings` in params.yaml; by default as the first store has it.")
    ] = None,
    pilot_labels: Annotated[int, typer.Option(min=1, help="Labels that the encoding learns its tables from.")] = 4096,
    params: Path = PARAMS,
    work: Work = WORK,
) -> None:
    """The weighted mean of several teachers' probabilities, encoded anew."""
    stores, out = _open(places)
    shares = [1.0] * len(stores) if weights is None else _shares(weights, len(stores))
    written = _encoding(stores[0], encoding, params)
    for store in stores:
        if not store.encoding.fields(store.manifest.space):
            raise StoreError(store.location, "holds no soft labels", expected="a store of any other encoding")
    _derive(
        "average",
        stores,
        out,
        work,
        {"weights": shares, "encoding": written.to_dict(), "pilot_labels": pilot_labels},
        stores[0].manifest.num_labels,
        lambda path, records, tell: derivation.average(
            stores, shares, written, path, records, num_pilot=pilot_labels, on_labels=tell
        ),
    )


def _derive(
    command: str,
    stores: Sequence[StoreReader],
    out: str,
    work: Path,
    arguments: dict[str, Any],
    num_labels: int,
    make: Make,
) -> None:
    """Makes a store in a scratch folder and gives it its name when it is finished."""
    if is_url(out):
        raise StoreError(out, "a URL can't be written to", expected="a folder that does not exist yet")
    decides = {
        "command": command,
        "sources": [store.manifest.fingerprint for store in stores],
        "arguments": fingerprint(arguments),
    }
    scratch = Scratch(Path(out), decides, work, code=Path(__file__), keep=False)  # of a user, who may want its room
    if Path(out).exists() and not scratch.done:
        raise StoreError(out, "exists already", expected="a new name", fix="delete it or choose another one")
    with scratch:
        if not scratch.done:
            with progress(f"derive_labels {command}", num_labels, "label") as on_labels:
                make(scratch.output, scratch.folder / "records", on_labels)
            scratch.publish()
    _tell(Path(out))


def _tell(out: Path) -> None:
    manifest = StoreReader(out).manifest
    about = f"{manifest.num_labels:,} labels: views {_few(manifest.view_numbers)} of {manifest.num_samples:,} samples"
    if manifest.fidelity is None:
        print(f"{out}: no labels; views {_few(manifest.view_numbers)} of {manifest.num_samples:,} samples")
        return
    kl = ", ".join(f"{t}: {v['mean']:.1e}" for t, v in manifest.fidelity["kl_nats"].items())
    print(
        f"{out}: {about}, {manifest.encoding['kind']}, {manifest.label_bytes:.2f} bytes each, "
        f"mean KL in nats by temperature {{{kl}}}"
    )


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= 8 else f"{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}"


def _open(places: Sequence[str]) -> tuple[list[StoreReader], str]:
    if len(places) < 3:
        raise ConfigError("derive_labels", f"{len(places)} paths", expected="two stores or more, then the new one")
    return [StoreReader(place) for place in places[:-1]], places[-1]


def _numbers(views: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", views):
        raise ConfigError("--views", repr(views), expected="numbers of views, such as 0,2")
    return [int(number) for number in views.split(",")]


def _shares(weights: str, count: int) -> list[float]:
    try:
        shares = [float(weight) for weight in weights.split(",")]
    except ValueError:
        shares = []
    if len(shares) != count or not all(0 < share < float("inf") for share in shares):
        raise ConfigError("--weights", repr(weights), expected=f"{count} numbers above 0, such as 0.7,0.3")
    return shares


def _chosen(store: StoreReader, file: Path | None, first: int | None) -> UInt64[np.ndarray, " samples"]:
    """The ids of the samples that are asked for."""
    if file is not None and first is not None:
        raise ConfigError("subset", "both --samples and --first", expected="one of them")
    if first is not None:
        if first > store.manifest.num_samples:
            found = f"has {store.manifest.num_samples:,} samples, not {first:,}"
            raise StoreError(store.location, found, expected="--first of no more than these")
        return store.sample_ids[:first]
    if file is None:
        return store.sample_ids
    if not file.is_file():
        raise DataError(file, "no such file", expected="sample ids, one in a line")
    ids = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if line.strip():
            if not re.fullmatch(r"[0-9a-fA-F]{16}", line.strip()):
                raise DataError(f"{file}:{number}", repr(line.strip()[:40]), expected="a sample id of 16 hex digits")
            ids.append(int(line, 16))
    if not ids:
        raise DataError(file, "is empty", expected="sample ids, one in a line")
    return np.array(ids, dtype=np.uint64)


def _encoding(first: StoreReader, name: str | None, params: Path) -> Encoding:
    """A row of the table `encodings`, or the first store's encoding."""
    if name is None:
        return first.encoding
    rows = load_rows("encodings", params)
    if name not in rows:
        raise ConfigError("--encoding", repr(name), expected=suggest(name, list(rows)))
    encoding = build_encoding(rows[name], f"{params}: encodings.{name}")
    encoding.check(first.manifest.space, f"{params}: encodings.{name}")
    if not encoding.fields(first.manifest.space):
        raise ConfigError("--encoding", f"{name!r} holds no soft labels", expected="any other")
    return encoding


if __name__ == "__main__":
    run_stage(subset, merge, average)
