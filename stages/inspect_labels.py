"""inspect_labels: describes a store, how large it is and how good, for a person or as JSON; or
draws one sample of it.

A command, not a stage of the DAG. A store at a URL is described by its manifest: its files are not
fetched."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from pipeline.core.command import run_stage
from pipeline.core.errors import PipelineError
from pipeline.core.progress import say, show
from pipeline.data.dataset import ImageDataset
from pipeline.data.manifest import DatasetManifest
from pipeline.labelling.inspect import describe_store, store_text
from pipeline.labelling.inspect_maps import InspectedMaps
from pipeline.labelling.inspect_sample import InspectedSample
from pipeline.labelling.inspect_vectors import InspectedVectors
from pipeline.labels.reader import StoreReader
from pipeline.results.explanation import Part
from pipeline.results.files import to_json

if TYPE_CHECKING:
    from pipeline.explanation.shown import PartShower


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
    parts = _parts(shown, data)
    if as_json:
        show(json.dumps(shown.facts() | parts.facts(), indent=2))
    else:
        show("\n\n".join([shown.text(top), *parts.lines()]))
    if parts.there:
        _refuse_figure(figure, data)
    else:
        _draw_if_there(shown, data, figure, partial(_draw, shown, data, top))


@dataclass(frozen=True)
class _Parts:
    """A sample and its views in words; nothing where samples are shown as pictures."""

    shower: "PartShower | None" = None
    sample: list[Part] = field(default_factory=list)
    views: dict[int, list[Part]] = field(default_factory=dict)

    @property
    def there(self) -> bool:
        return self.shower is not None

    def facts(self) -> dict[str, Any]:
        """Returns them as plain JSON."""
        return {"sample": to_json(self.sample), "views": to_json([*self.views.values()])} if self.there else {}

    def lines(self) -> list[str]:
        """Returns them for a terminal."""
        if self.shower is None:
            return []
        named = {"as it is": self.sample} | {f"view {number}": parts for number, parts in self.views.items()}
        return ["\n".join(f"{name}: {self.shower.text(parts) or '(nothing)'}" for name, parts in named.items())]


def _parts(shown: InspectedSample, data: Path) -> _Parts:
    """Returns a sample and its views in words, where it is in the data and is shown so."""
    from pipeline.explanation.shown import PartShower, shower_of

    if shown.inputs is None or shown.plain is None:
        return _Parts()
    shower, plain = shower_of(ImageDataset(data)), shown.plain
    if not isinstance(shower, PartShower):
        return _Parts()
    numbered = zip(shown.view_numbers, shown.inputs, strict=True)
    return _Parts(shower, shower.parts(plain), {number: shower.parts(view, plain) for number, view in numbered})


def _refuse_figure(figure: Path | None, data: Path) -> None:
    """Says that there is none, where one was asked for."""
    if figure is not None:
        things = DatasetManifest.read(data / "manifest.json").kind.things
        say(f"inspect_labels: no figure: {things} are shown in words")


def _draw_if_there(
    shown: InspectedSample | InspectedMaps, data: Path, figure: Path | None, draw: Callable[[Path], None]
) -> None:
    """Draws a sample where it is in the data."""
    if shown.inputs is None:
        say(
            f"inspect_labels: no figure: this {DatasetManifest.read(data / 'manifest.json').kind.thing} is not in {data}"
        )
        return
    path = figure or Path("reports/inspect") / f"{shown.name}.png"
    try:
        draw(path)  # with matplotlib, which a table can do without
    except ImportError as error:
        fix = "run `pip install -c constraints.txt '.[pipeline]'`"
        raise PipelineError(path, f"can't be drawn without the package {error.name}", fix=fix) from None
    say(f"inspect_labels: {path}")


def _draw(shown: InspectedSample, data: Path, top: int, path: Path) -> None:
    """Draws the views beside the teacher's most likely classes."""
    from pipeline.explanation.shown import PictureShower, shower_of
    from pipeline.report.label_figures import SampleViews, draw_sample

    shower = shower_of(ImageDataset(data))
    assert shown.inputs is not None, "there is something to draw"
    assert isinstance(shower, PictureShower), "samples in words are not drawn"
    pictures = np.stack([shower.picture(view) for view in shown.inputs])
    title = (
        f"{shown.title}\nthe teacher at temperature {shown.temperature:g}, by {Path(shown.store).name} "
        "(blue: the hard label)"
    )
    views = [f"view {number}" for number in shown.view_numbers]
    classes = (shown.class_names, shown.hard_classes)
    draw_sample(SampleViews(title, pictures, shown.probabilities, views, *classes), top, path)


def _draw_maps(shown: InspectedMaps, path: Path) -> None:
    """Draws each view beside its hard label and the teacher's most likely classes."""
    from pipeline.explanation.class_colours import class_colours, paint
    from pipeline.report.map_figures import SampleMaps, draw_maps

    assert shown.inputs is not None, "there is something to draw"
    assert shown.hard is not None, "it is in the data"
    colours = class_colours(len(shown.class_names))
    hard, teacher = (np.stack([paint(each, colours) for each in own]) for own in (shown.hard, shown.teacher))
    present = [n for n in range(len(colours)) if (shown.hard == n).any() or (shown.teacher == n).any()]
    legend = {shown.class_names[n]: colours[n] for n in present}
    views = [f"view {number}" for number in shown.view_numbers]
    draw_maps(SampleMaps(shown.title, shown.inputs.numpy(), hard, teacher, views, legend), path)


if __name__ == "__main__":
    run_stage(main)
