"""inspect_labels: describes a store, how large it is and how good, for a person or as JSON; or
draws one sample of it.

A command, not a stage of the DAG. A store at a URL is described by its manifest: its files are not
fetched."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline.core.command import run_stage
from pipeline.core.errors import PipelineError
from pipeline.core.progress import say, show
from pipeline.labelling.inspect import describe_store, store_text
from pipeline.labelling.inspect_maps import InspectedMaps
from pipeline.labelling.inspect_sample import InspectedSample
from pipeline.labelling.inspect_vectors import InspectedVectors
from pipeline.labels.reader import StoreReader


def main(
    store: Annotated[str, typer.Argument(help="A store's folder or URL.")],
    sample: Annotated[
        str | None, typer.Option(help="Show one sample: its id (16 hex digits), or row:<number> of the store.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the sample's labels; by default the stored one.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes of the sample to show.")] = 5,
    figure: Annotated[Path | None, typer.Option(help="By default reports/inspect/<id>.png.")] = None,
    data: Path = Path("data/prepare"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    reader = StoreReader(store)
    if sample is None:
        facts = describe_store(reader)
        show(json.dumps(facts, indent=2) if as_json else store_text(facts))
        return
    if reader.manifest.is_of_embeddings:
        vectors = InspectedVectors.read(reader, sample, top)
        show(json.dumps(vectors.facts(), indent=2) if as_json else vectors.text())
        return
    if reader.manifest.positions is not None:
        maps = InspectedMaps.read(reader, sample, data)
        show(json.dumps(maps.facts(), indent=2) if as_json else maps.text(top))
        _draw_if_there(maps, data, figure, partial(_draw_maps, maps))
        return
    shown = InspectedSample.read(
        reader, sample, reader.manifest.temperature if temperature is None else temperature, data
    )
    show(json.dumps(shown.facts(), indent=2) if as_json else shown.text(top))
    _draw_if_there(shown, data, figure, partial(_draw, shown, top))


def _draw_if_there(
    shown: InspectedSample | InspectedMaps, data: Path, figure: Path | None, draw: Callable[[Path], None]
) -> None:
    """Draws a sample where its image is in the data."""
    if shown.images is None:
        say(f"inspect_labels: no figure: this image is not in {data}")
        return
    path = figure or Path("reports/inspect") / f"{shown.name}.png"
    try:
        draw(path)  # with matplotlib, which a table can do without
    except ImportError as error:
        fix = "run `pip install -c constraints.txt '.[pipeline]'`"
        raise PipelineError(path, f"can't be drawn without the package {error.name}", fix=fix) from None
    say(f"inspect_labels: {path}")


def _draw(shown: InspectedSample, top: int, path: Path) -> None:
    """Draws the views beside the teacher's most likely classes."""
    from pipeline.report.label_figures import SampleViews, draw_sample

    assert shown.images is not None, "there is something to draw"
    title = (
        f"{shown.title}\nthe teacher at temperature {shown.temperature:g}, by {Path(shown.store).name} "
        "(blue: the hard label)"
    )
    views = [f"view {number}" for number in shown.view_numbers]
    classes = (shown.class_names, shown.hard_classes)
    draw_sample(SampleViews(title, shown.images.numpy(), shown.probabilities, views, *classes), top, path)


def _draw_maps(shown: InspectedMaps, path: Path) -> None:
    """Draws each view beside its hard label and the teacher's most likely classes."""
    from pipeline.explanation.class_colours import class_colours, paint
    from pipeline.report.map_figures import SampleMaps, draw_maps

    assert shown.images is not None, "there is something to draw"
    assert shown.hard is not None, "it is in the data"
    colours = class_colours(len(shown.class_names))
    hard, teacher = (np.stack([paint(each, colours) for each in own]) for own in (shown.hard, shown.teacher))
    present = [n for n in range(len(colours)) if (shown.hard == n).any() or (shown.teacher == n).any()]
    legend = {shown.class_names[n]: colours[n] for n in present}
    views = [f"view {number}" for number in shown.view_numbers]
    draw_maps(SampleMaps(shown.title, shown.images.numpy(), hard, teacher, views, legend), path)


if __name__ == "__main__":
    run_stage(main)
