"""import_labels: files of a teacher's logits or embeddings -> the stores that dump_labels would
write, of the inputs as they are.

A command, not a stage of the DAG: for a teacher that runs elsewhere. Rows are joined to samples by
sample id, or by the key that `data/prepare/samples.tsv` has for each. A killed one goes on where it
stopped when it is run again."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.errors import ConfigError
from pipeline.core.progress import say
from pipeline.core.scratch import WORK, Scratch
from pipeline.data.dataset import ImageDataset
from pipeline.data.hard_labels import is_labelled
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.labelling.imported_order import tell_neighbours
from pipeline.labelling.imported_sources import LogitFiles
from pipeline.labelling.imported_stores import Imports, spare_other_stores, write_stores
from pipeline.labelling.imported_teachers import ImportedEmbeddings, ImportedTeacher
from pipeline.labelling.settings import ImportedClasses, ImportLabels
from pipeline.labelling.stores import fitting_encodings
from pipeline.labels.encodings import read_encodings
from pipeline.models import read_class_names
from pipeline.signals import signal_named
from pipeline.teacher.calibration import fit_temperature
from pipeline.teacher.outputs import ImportedOutputs


def main(
    logits: Annotated[
        Path | None,
        typer.Option(help="A .parquet, .npz or .npy file: a row of logits for each image; or see --layout."),
    ] = None,
    ids: Annotated[
        str | None, typer.Option(help="Its column or array of sample ids or keys, or a file with one in a line.")
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="The values are probabilities.")] = False,
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    out: Path = Path("data/dump_labels"),
    work: Path = WORK,
    layout: Annotated[
        str | None, typer.Option(help="Labels of another system, by its layout: tinyvit, fkd, ced or distillkit.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="A file like that of logits, with a row of numbers for each image.")
    ] = None,
) -> None:
    # 1. The settings, the data, and the rows of the files, matched to its classes and samples.
    settings = load_section(ImportLabels, "dump_labels", params)
    settings.check(f"{params}: dump_labels")
    rows = read_encodings(params)
    dataset, samples = ImageDataset(data), data / "samples.tsv"
    vectors = None if embeddings is None else ImportedEmbeddings.read(embeddings, ids, samples)
    space = settings.space_of(dataset.manifest)
    rows = fitting_encodings(rows, space, params, vectors.dimensions if vectors else None)
    teacher = None
    if logits is not None:
        classes = load_section(ImportedClasses, "train_teacher", params)
        names = read_class_names(classes.teacher_classes, f"{params}: train_teacher")
        imported = LogitFiles(logits, ids, probabilities, layout).read(dataset, samples, names)
        teacher = ImportedTeacher.of(imported, classes, dataset.manifest.class_names, f"{params}: train_teacher")
    elif vectors is None or layout is not None or probabilities:
        found = "not given" + ("" if vectors is None else ", and --layout and --probabilities are about it")
        raise ConfigError("--logits", found, expected="a file of logits, or --embeddings alone")
    imports = Imports(teacher, vectors)
    imports.check(rows, f"{params}: encodings")
    train = dataset.stream("train")
    for each in filter(None, (teacher, vectors)):
        each.rows_of(train.sample_ids)  # or it says that some are missing
    if vectors:
        tell_neighbours(vectors, train)
    # 2. The stores, which state how good the teacher is.
    plan = imports.plan(settings, rows, dataset.manifest, _figures(teacher, dataset, train) if teacher else {})
    spare_other_stores(out)
    # 3. The labels.
    decides = {
        "settings": asdict(settings),
        "encodings": {name: row.to_dict() for name, row in rows.items()},
        "teacher": {name: manifest.teacher for name, manifest in plan.manifests.items()},
        "data": dataset.manifest.fingerprints["train"],
    }
    with Scratch(out, decides, work, code=Path(__file__)) as scratch:
        if not scratch.done:
            write_stores(scratch, plan, train, imports)
            scratch.publish()


def _figures(teacher: ImportedTeacher, dataset: ImageDataset, train: SplitOnDisk) -> dict[str, float]:
    """Returns the accuracy, and the temperature that calibrates the validation split, for the
    manifest.

    Measured on the validation split where the file has some of it, else on the training split;
    raises ModelError where outputs are in another order, or no better than chance."""
    val = dataset.stream("val")
    name, labels, rows = "val", val.hard_labels, teacher.find(val.sample_ids)
    if not (rows >= 0).any():
        name, labels, rows = "train", train.hard_labels, teacher.find(train.sample_ids)
    known = torch.from_numpy(rows >= 0) & is_labelled(labels)
    logits, labels = teacher.take(rows[known.numpy()]), labels[known]
    signal = signal_named(dataset.manifest.signal)
    ImportedOutputs(teacher.where, dataset.manifest.class_names, teacher.groups, signal).check(logits, labels)
    figures = signal.metrics(logits, labels)
    found = f"{signal.headline_words} {figures[signal.headline]:.2%}"
    say(f"import_labels: {found} on {len(labels):,} samples of the {name} split")
    temperature = {"calibration_temperature": fit_temperature(logits, labels, signal)} if name == "val" else {}
    return {f"{name}_{figure}": figures[figure] for figure in ("accuracy", signal.headline)} | temperature


if __name__ == "__main__":
    run_stage(main)
