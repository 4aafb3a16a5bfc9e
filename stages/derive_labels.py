"""derive_labels: stores made from finished stores, without a teacher: `subset`, `merge` and
`average`.

A command, not a stage of the DAG. A killed one goes on where it stopped when it is run again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS
from pipeline.core.errors import ConfigError
from pipeline.core.progress import show
from pipeline.core.scratch import WORK
from pipeline.labelling.closeness import closeness_line
from pipeline.labelling.derive.average import Average
from pipeline.labelling.derive.base import Derivation, derive_store
from pipeline.labelling.derive.merge import Merge
from pipeline.labelling.derive.options import choose_encoding, choose_samples, need_labels, parse_views, parse_weights
from pipeline.labelling.derive.subset import Subset
from pipeline.labels.reader import StoreReader

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
    """Makes a store of some views of some samples of another one."""
    store = StoreReader(source)
    numbers = None if views is None else parse_views(views)
    _derive(Subset(store, numbers, choose_samples(store, samples, first)), out, work)


def merge(places: Stores, work: Work = WORK) -> None:
    """Makes a store of all views of all samples of several stores of one teacher and encoding."""
    stores, out = _open(places)
    _derive(Merge(stores), out, work)


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
    """Makes a store of the weighted mean of several teachers' probabilities."""
    stores, out = _open(places)
    shares = [1.0] * len(stores) if weights is None else parse_weights(weights, len(stores))
    written = choose_encoding(stores[0], encoding, params)
    need_labels(stores)
    _derive(Average(stores, shares, written, pilot_labels), out, work)


def _open(places: Sequence[str]) -> tuple[list[StoreReader], str]:
    if len(places) < 3:
        raise ConfigError("derive_labels", f"{len(places)} paths", expected="two stores or more, then the new one")
    return [StoreReader(place) for place in places[:-1]], places[-1]


def _derive(derivation: Derivation, out: str, work: Path) -> None:
    derive_store(derivation, out, work)
    _report(Path(out))


def _report(out: Path) -> None:
    """Prints what the new store holds."""
    manifest = StoreReader(out).manifest
    of_samples = f"views {_few(manifest.view_numbers)} of {manifest.num_samples:,} samples"
    if manifest.fidelity is None:
        show(f"{out}: no labels; {of_samples}")
        return
    show(
        f"{out}: {manifest.num_labels:,} labels: {of_samples}, {manifest.encoding['kind']}, "
        f"{manifest.label_bytes:.2f} bytes each, {closeness_line(manifest.fidelity, manifest.signal)}"
    )


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= 8 else f"{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}"


if __name__ == "__main__":
    run_stage(subset, merge, average)
