"""import_labels: a file of a teacher's logits -> the stores that dump_labels would write, of the images as they are.

A command, not a stage of the DAG: for a teacher that runs elsewhere. Rows are joined to images by sample id, or by the
key that `data/prepare/samples.tsv` has for each. A killed one goes on where it stopped when it is run again.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float, Int64
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, STRICT, load_rows, load_section
from pipeline.core.errors import ConfigError, ModelError, StoreError
from pipeline.core.files import file_fingerprint, fingerprint, read_json
from pipeline.core.progress import progress, say
from pipeline.core.scratch import WORK, Scratch
from pipeline.core.seeding import derive_seed, permutation
from pipeline.data.dataset import ImageDataset
from pipeline.data.sample_ids import find_samples
from pipeline.data.splits import UNLABELLED, SplitOnDisk
from pipeline.labelling.imported_logits import ImportedLogits, read_logits
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import Encoding, build_encoding
from pipeline.labels.manifest import Manifest
from pipeline.models import group_table, join_outputs, match_classes, read_class_names
from pipeline.signals.metrics import accuracy
from pipeline.teacher.calibration import fit_temperature
from pipeline.teacher.chance import check_above_chance
from pipeline.views import ViewSpec
from pipeline.views.plan import RowOrder

MODEL = "imported logits"
PLAIN = ViewSpec(seed=0, plain_first=True, operations=())  # its view 0 is the image
_LOOKED_AT = 10_000  # images at most, to tell what the values are


@dataclass(frozen=True, kw_only=True, config=STRICT | {"extra": "ignore"})
class LabelSettings:
    """What decides a store of plain views, of the section `dump_labels`."""

    temperature: PositiveFloat
    temperatures: Annotated[list[PositiveFloat], Field(min_length=1)]
    pilot_labels: PositiveInt
    block_samples: PositiveInt
    num_canaries: PositiveInt


@dataclass(frozen=True, kw_only=True, config=STRICT | {"extra": "ignore"})
class ClassSettings:
    """What the logits' classes are, of the section `train_teacher`."""

    teacher_classes: str | list[str] | None
    class_map: dict[str, list[int | str]] | None


def main(
    logits: Annotated[Path, typer.Option(help="A .parquet, .npz or .npy file: a row of logits for each image.")],
    ids: Annotated[
        str | None, typer.Option(help="Its column or array of sample ids or keys, or a file with one in a line.")
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="The values are probabilities.")] = False,
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    out: Path = Path("data/dump_labels"),
    work: Path = WORK,
) -> None:
    settings = load_section(LabelSettings, "dump_labels", params)
    if settings.temperature not in settings.temperatures:
        stored = f"dump_labels.temperature, {settings.temperature:g}, among them"
        raise ConfigError(f"{params}: dump_labels.temperatures", str(settings.temperatures), expected=stored)
    rows = load_rows("encodings", params)
    encodings = {name: build_encoding(row, f"{params}: encodings.{name}") for name, row in rows.items()}
    dataset = ImageDataset(data)
    imported = read_logits(logits, ids, data / "samples.tsv", are_probabilities=probabilities)
    answers = Answers.of(imported, params, dataset)
    train = dataset.stream("train")
    at = answers.rows_of(train.sample_ids, logits)
    about = {"fingerprint": answers.fingerprint, "model": MODEL, **answers.figures(dataset, train)}
    manifests = _manifests(settings, encodings, dataset, about)
    for name, encoding in encodings.items():
        encoding.check(manifests[name].space, f"{params}: encodings.{name}")
    _spare_others(out)
    decides = {
        "settings": asdict(settings),
        "encodings": {name: encoding.to_dict() for name, encoding in encodings.items()},
        "teacher": about,
        "data": dataset.manifest.fingerprints["train"],
    }
    with Scratch(out, decides, work, code=Path(__file__)) as scratch:
        if not scratch.done:
            _write(scratch, settings, encodings, manifests, train, answers, at)
            scratch.publish()


class Answers:
    """Imported logits as logits of the data's classes."""

    def __init__(self, imported: ImportedLogits, groups: list[list[int]] | None) -> None:
        self._imported = imported
        self._table = None if groups is None else group_table(groups)
        ids = fingerprint([f"{i:016x}" for i in imported.sample_ids.tolist()])
        kind = imported.are_probabilities
        self.fingerprint = fingerprint([file_fingerprint(imported.where), ids, groups, kind])

    @classmethod
    def of(cls, imported: ImportedLogits, params: Path, dataset: ImageDataset) -> "Answers":
        """Raises ConfigError where outputs and classes do not match, ModelError where the values are of another kind."""
        where = f"{params}: train_teacher"
        classes = load_section(ClassSettings, "train_teacher", params)
        names = read_class_names(classes.teacher_classes, f"{where}.teacher_classes") or imported.output_names
        outputs = imported.values.shape[1]
        imported.check_kind(np.arange(min(len(imported.values), _LOOKED_AT)))
        return cls(imported, match_classes(dataset.manifest.class_names, names, classes.class_map, outputs, where))

    def take(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some classes"]:
        values = self._imported.take(rows)
        return values if self._table is None else join_outputs(values, self._table)

    def rows_of(self, sample_ids: np.ndarray, where: Path) -> Int64[np.ndarray, " samples"]:
        """Which row is of which training image; raises ModelError where one has none."""
        rows = find_samples(sample_ids, self._imported.sample_ids)
        lacking = np.flatnonzero(rows < 0)
        if len(lacking):
            found = f"no logits for {len(lacking):,} of {len(rows):,} training images"
            first = f"the first is sample {int(sample_ids[lacking[0]]):016x}, see samples.tsv"
            raise ModelError(where, f"{found} ({first})", expected="one row for each")
        return rows

    def figures(self, dataset: ImageDataset, train: SplitOnDisk) -> dict[str, float]:
        """Accuracy, on the validation split where the file has some of it; raises ModelError where it is chance."""
        val = dataset.stream("val")
        split, labels, ids = "val", val.hard_labels, val.sample_ids
        if not (find_samples(ids, self._imported.sample_ids) >= 0).any():
            split, labels, ids = "train", train.hard_labels, train.sample_ids
        rows = find_samples(ids, self._imported.sample_ids)
        known = torch.from_numpy(rows >= 0) & (labels != UNLABELLED)
        logits, labels = self.take(rows[known.numpy()]), labels[known]
        check_above_chance(logits, labels, self._imported.where)
        say(f"import_labels: accuracy {accuracy(logits, labels):.2%} on {len(labels):,} images of the {split} split")
        temperature = {"calibration_temperature": fit_temperature(logits, labels)} if split == "val" else {}
        return {f"{split}_accuracy": accuracy(logits, labels), **temperature}


def _manifests(
    settings: LabelSettings, encodings: dict[str, Encoding], dataset: ImageDataset, about: dict[str, Any]
) -> dict[str, Manifest]:
    """What each store will say of itself, but for what is measured."""
    num_samples = dataset.manifest.num_samples["train"]
    manifests = {}
    for name, encoding in encodings.items():
        manifests[name] = Manifest(
            encoding=encoding.to_dict(),
            class_names=dataset.manifest.class_names,
            view_numbers=[0],
            num_samples=num_samples,
            block_samples=min(settings.block_samples, num_samples),
            temperature=settings.temperature,
            temperatures=settings.temperatures,
            views=PLAIN.to_dict(),
            dataset_fingerprint=dataset.manifest.fingerprints["train"],
            teacher=about,
        )
        if not encoding.fields(manifests[name].space):
            manifests[name] = replace(manifests[name], teacher=None)
    return manifests


def _spare_others(out: Path) -> None:
    """Raises StoreError where `out` has stores of another teacher, which would be lost."""
    for path in sorted(out.glob("*.zarr/zarr.json")):
        teacher = read_json(path, made_by="dump_labels").get("attributes", {}).get("teacher")
        if teacher is not None and teacher.get("model") != MODEL:
            raise StoreError(path.parent, "holds labels of another teacher", fix="move it away, or name another --out")


def _write(
    scratch: Scratch,
    settings: LabelSettings,
    encodings: dict[str, Encoding],
    manifests: dict[str, Manifest],
    train: SplitOnDisk,
    answers: Answers,
    at: Int64[np.ndarray, " samples"],
) -> None:
    """Every store, from the first block that it lacks on."""
    order = RowOrder(train.sample_ids, next(iter(manifests.values())).block_samples)
    canaries = make_canaries(train, PLAIN, [0], settings.num_canaries, order)
    some = permutation(derive_seed(PLAIN.seed, "pilot"), len(train), 0)[: settings.pilot_labels]
    pilot = torch.log_softmax(answers.take(at[some]) / settings.temperature, dim=1)
    with progress("import_labels", len(train) * len(encodings), "label") as on_labels:
        for name, manifest in manifests.items():
            tables = encodings[name].learn(pilot, manifest.space)
            path, records = scratch.output / f"{name}.zarr", scratch.folder / "records" / name
            writer = StoreWriter(path, records, manifest, train.sample_ids, canaries, tables)
            for block in manifest.blocks():
                if not writer.has(block):
                    writer.write(block, answers.take(at[block.rows.start : block.rows.stop]))
                on_labels(len(block.rows))
            size = writer.finish().label_bytes
            say(f"import_labels: {name}: {manifest.num_labels:,} labels, {size:.2f} bytes each, of images as they are")


if __name__ == "__main__":
    run_stage(main)
