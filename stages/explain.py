"""explain: labels that are probably wrong, samples on which students disagree with the teacher, and
maps of what each network looks at -> data/explain (samples.json and sheets of tiles),
reports/suspects.tsv, reports/explain.json.
"""

from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section
from pipeline.core.files import write_bytes
from pipeline.core.progress import say
from pipeline.core.tensors import read_tensors
from pipeline.data.dataset import ImageDataset
from pipeline.explanation.checked_labels import CheckedLabels, write_suspects
from pipeline.explanation.disagreement import distilled_students, has_teacher, most_disagreed
from pipeline.explanation.explain_maps import Places, explain_maps
from pipeline.explanation.predictions import Predictions
from pipeline.explanation.rows import Findings, explanation
from pipeline.explanation.samples import Samples, StoredViews, choose
from pipeline.explanation.settings import Explain
from pipeline.explanation.tiles import COLUMNS, TileSheet
from pipeline.results.explanation import ShownSamples
from pipeline.results.files import write_result
from pipeline.results.networks import TEACHER


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    students: Path = Path("data/train_student"),
    labels: Path = Path("data/dump_labels"),
    evaluated: Path = Path("data/evaluate"),
    out: Path = Path("data/explain"),
    reports: Path = Path("reports"),
) -> None:
    settings = load_section(Explain, "explain", params)
    folders = {name: students / name for name in load_rows("students", params)}
    distilled = distilled_students(folders)
    evaluation = read_tensors(evaluated / "predictions.safetensors", made_by="evaluate")
    dataset = ImageDataset(data)
    if dataset.manifest.signal == "grid":
        folders = {TEACHER: teacher, **folders} if has_teacher(evaluation) else folders
        places = Places(data, evaluated, out, reports)
        say(f"explain: {explain_maps(folders, distilled, evaluation, settings, places)}")
        return
    train, test, class_names = dataset.stream("train"), dataset.stream("test"), dataset.manifest.class_names

    # 1. The samples to show: suspects, those that networks disagree on, and ordinary ones.
    disagreed = []
    if has_teacher(evaluation):
        folders = {TEACHER: teacher, **folders}
        disagreed = most_disagreed(evaluation, distilled, len(test), settings.num_disagreed, evaluated)
    checked = CheckedLabels.of(labels, train, dataset.manifest)
    suspects = checked.shown(settings.num_suspects)
    asked = {place: of_class for place, (_, of_class) in suspects.items()}
    samples = Samples.read(choose(asked, disagreed, settings.num_attributed, len(test)), train, test)

    # 2. Their images and stored views, and every network's predictions and maps.
    tiles = TileSheet(*samples.images.shape[2:])
    images = [tiles.add(image) for image in samples.images.numpy()]
    views = StoredViews.read(samples, tiles, train, checked.store, settings.num_views)
    predictions = Predictions.of(folders, samples, settings, dataset.manifest.mean)
    maps, map_numbers = predictions.draw(samples)
    findings = Findings(samples, images, views, predictions, map_numbers, distilled)
    rows = findings.rows([suspicion for suspicion, _ in suspects.values()])

    # 3. The files.
    write_bytes(out / "tiles.png", tiles.png())
    (out / "maps.png").unlink(missing_ok=True)
    if map_numbers:
        write_bytes(out / "maps.png", maps.png())
    shown = ShownSamples(
        class_names=class_names,
        networks=list(folders),
        tile_px=list(tiles.tile_px),
        columns=COLUMNS,
        tiles_sheet="tiles.png",
        maps_sheet="maps.png" if map_numbers else None,
        map_px=list(tiles.tile_px),
        store=checked.store.path.name if checked.store else None,
        samples=rows,
    )
    write_result(out / "samples.json", shown)
    write_suspects(reports / "suspects.tsv", checked.suspects, train, data / "samples.tsv", checked.answers)
    write_result(reports / "explain.json", explanation(checked, predictions))
    say(f"explain: {checked}; {len(rows)} samples shown, {len(map_numbers)} of them with maps")


if __name__ == "__main__":
    run_stage(main)
