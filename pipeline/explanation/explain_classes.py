"""The stage `explain` where a sample has one class of several, or a set of them."""

from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.data.dataset import ImageDataset
from pipeline.explanation.checked_labels import CheckedLabels, write_suspects
from pipeline.explanation.disagreement import most_disagreed
from pipeline.explanation.places import Places
from pipeline.explanation.predictions import Predictions
from pipeline.explanation.rows import Findings, explanation
from pipeline.explanation.samples import Samples, StoredViews, choose
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown import shower_of
from pipeline.explanation.shown.exhibit import exhibit_of
from pipeline.explanation.tiles import COLUMNS
from pipeline.results.explanation import ShownSamples
from pipeline.results.files import write_result
from pipeline.results.networks import TEACHER


def explain_classes(
    folders: Mapping[str, Path],
    distilled: list[str],
    evaluation: Mapping[str, torch.Tensor],
    settings: Explain,
    places: Places,
) -> str:
    """Writes the files of the stage; returns what it found, in a line.

    Args:
        folders: The trained networks by name, the teacher first where there is one.
        distilled: The students that are not twins.
        evaluation: The tensors that `evaluate` wrote.
    """
    dataset, out = ImageDataset(places.data), places.out
    train, test = dataset.stream("train"), dataset.stream("test")
    # 1. The samples to show: suspects, those that networks disagree on, and ordinary ones.
    disagreed = []
    if TEACHER in folders:
        disagreed = most_disagreed(evaluation, distilled, len(test), settings.num_disagreed, places.evaluated)
    checked = CheckedLabels.of(places.labels, train, dataset.manifest)
    suspects = checked.shown(settings.num_suspects)
    asked = {place: of_class for place, (_, of_class) in suspects.items()}
    samples = Samples.read(choose(asked, disagreed, settings.num_attributed, len(test)), train, test)

    # 2. They and their stored views, and every network's predictions and maps.
    shower = shower_of(dataset)
    exhibit = exhibit_of(shower)
    looks = [exhibit.add(one) for one in samples.inputs]
    views = StoredViews.read(samples, exhibit, train, checked.store, settings.num_views)
    predictions = Predictions.of(folders, samples, settings, shower)
    maps = predictions.draw(samples, exhibit)
    findings = Findings(samples, looks, views, predictions, maps, distilled)
    rows = findings.rows([suspicion for suspicion, _ in suspects.values()])

    # 3. The files.
    exhibit.write(out)
    shown = ShownSamples(
        class_names=dataset.manifest.class_names,
        networks=list(folders),
        tile_px=exhibit.tile_px,
        columns=COLUMNS,
        tiles_sheet=exhibit.sheets[0],
        maps_sheet=exhibit.sheets[1],
        map_px=exhibit.tile_px,
        store=checked.store.path.name if checked.store else None,
        samples=rows,
    )
    write_result(out / "samples.json", shown)
    write_suspects(
        places.reports / "suspects.tsv", checked.suspects, train, places.data / "samples.tsv", checked.answers
    )
    write_result(places.reports / "explain.json", explanation(checked, predictions))
    return f"{checked}; {len(rows)} samples shown, {len(maps)} of them with maps"
