"""export: data/train_student/<name> + images -> data/export/<name>: the student in the forms that
others run. With `int8: aware` it reads the student's labels, too.
"""

from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section, read_exports, validate
from pipeline.core.errors import ConfigError, suggest
from pipeline.core.files import file_fingerprint
from pipeline.core.progress import say
from pipeline.core.scratch import Scratch
from pipeline.data.auto_budget import settle
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.export import measure
from pipeline.export.aware import Further, recipe_for, write_aware
from pipeline.export.libraries import library_versions
from pipeline.export.settings import Export
from pipeline.export.write import samples_for, write_forms
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.saved import ModelMeta, model_fingerprint, read_meta, read_model
from pipeline.results.files import write_result
from pipeline.student.batches import LabelledBatch
from pipeline.student.data import StudentData
from pipeline.student.pilots import ShortTask
from pipeline.student.settings import TrainStudent
from pipeline.student.stores import open_stores
from pipeline.student.task import StudentTask
from pipeline.training.run import Workplace


@dataclass(frozen=True)
class Lessons:
    """The row of a trained student, with numbers for `auto`, and the store that it learned from."""

    row: TrainStudent
    store: StoreReader

    @property
    def device(self) -> torch.device:
        """The device that the student is trained on."""
        return choose_device(self.row.device)

    @classmethod
    def of(cls, meta: ModelMeta, labels: str, name: str, table: str) -> "Lessons":
        """Returns those of a trained student; trials have put numbers in the place of `auto`."""
        known = {field.name for field in fields(TrainStudent)}
        settings = {key: value for key, value in meta.settings.items() if key in known}
        row: TrainStudent = validate(TrainStudent, settings | {"group": None}, f"{table}.{name}")
        row = row.without_features()  # no embedding is at hand when a student is exported
        return cls(row, open_stores(labels, {name: row}, table)[name])

    def further(self, dataset: ImageDataset, settings: Export, scratch: Path, title: str) -> Further[LabelledBatch]:
        """Returns the same training once more, for as many steps as the settings ask for."""
        row, device = self.row, self.device
        where = f"{title}: memory_budget_mb"
        megabytes = settle(row.memory_budget_mb, where, scratch)
        budget = MemoryBudget.of_megabytes(megabytes, row.fit.batch_size, where)
        data = StudentData.open(dataset, budget, device, [self.store] if row.soft_weight else [])
        task = StudentTask(row, data.labelled(self.store, row), data.val, device)
        short = ShortTask(task, min(task.steps_per_epoch, settings.aware.steps))
        recipe = recipe_for(row.fit, settings, short.steps_per_epoch)
        return Further(short, recipe, Workplace(scratch, device, f"{title}, aware int8"))


def main(
    name: str = typer.Option(help="A student of the list `exports`."),
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    students: Path = Path("data/train_student"),
    out: Path = Path("data/export"),
    reports: Path = Path("reports/export"),
    work: Path = Path("work"),
    labels: Annotated[str, typer.Option(help="As for train-student; for `int8: aware`.")] = "data/dump_labels",
) -> None:
    settings = load_section(Export, "export", params)
    if name not in (listed := read_exports(params)):
        raise ConfigError(f"{params}: exports", f"no {name!r}", expected=suggest(name, listed))
    libraries = library_versions(executorch=settings.executorch)
    dataset, made_by = ImageDataset(data), f"train_student@{name}"
    meta = read_meta(students / name, made_by=made_by)
    meta.check_data(dataset.manifest, students / name, made_by)
    model = read_model(students / name, made_by=made_by)
    lessons = Lessons.of(meta, labels, name, f"{params}: students") if settings.int8 == "aware" else None
    decides = {
        "settings": asdict(settings),
        "model": model_fingerprint(students / name),
        "meta": meta.to_dict(),
        "data": dataset.manifest.fingerprints,
        "libraries": libraries,
    }
    code = Path(measure.__file__)  # what trains a student decides nothing where none is trained
    if lessons:
        code = Path(__file__)
        decides |= {"store": file_fingerprint(lessons.store.path / "zarr.json"), "device": lessons.device.type}
    with Scratch(out / name, decides, work, [reports / f"{name}.json"], code=code) as scratch:
        if scratch.done:
            return
        samples, aware = samples_for(dataset, settings), None
        if lessons:
            further = lessons.further(dataset, settings, scratch.folder, f"export@{name}")
            aware = partial(write_aware, samples=samples, settings=settings, further=further)
        forms = write_forms(scratch.output, model, meta, samples, settings, aware)
        report = measure.measure_forms(scratch.output, name, model, dataset.stream("test"), settings, forms)
        write_result(reports / f"{name}.json", report)
        scratch.publish()
    for line in measure.summary(report, settings):
        say(line)


if __name__ == "__main__":
    run_stage(main)
