"""train_student: data/prepare + one store -> data/train_student/<name>. Never loads the teacher.

`torchrun --nproc-per-node 4 -m stages.train_student --name small` trains it on four GPUs, each with its share of every
batch.
"""

import os
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_row, load_rows, load_table, validate
from pipeline.core.errors import ConfigError, StoreError, suggest
from pipeline.core.files import file_fingerprint
from pipeline.core.progress import say
from pipeline.core.scratch import Scratch
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.opening import open_splits
from pipeline.labels.join import label_bytes
from pipeline.labels.reader import StoreReader
from pipeline.labels.remote import is_url
from pipeline.models.devices import check_compiler, choose_device, has_room
from pipeline.models.saved import ModelMeta, write_model
from pipeline.student.batches import LabelledBatch
from pipeline.student.groups import batches_together, check_alike
from pipeline.student.labelled_views import LabelledViews
from pipeline.student.losses import build_loss
from pipeline.student.settings import TrainStudent
from pipeline.student.task import StudentTask
from pipeline.student.temperature import Choice, choose_temperature, shorten
from pipeline.training.fit import fit, write_reports
from pipeline.training.run import FitResult, Workplace
from pipeline.training.start import Start, origins
from pipeline.training.team import Team, one_voice
from pipeline.training.trainer import Trainer


@one_voice()
def main(
    name: str = typer.Option(help="The student's row in the table `students`."),
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    labels: str = typer.Option("data/dump_labels", help="The folder of the stores, or its http(s):// or s3:// URL."),
    out: Path = Path("data/train_student"),
    reports: Path = Path("reports/train_student"),
    work: Path = Path("work"),
) -> None:
    rows, table = _rows(name, params), load_rows("students", params)
    for each, row in rows.items():
        row.check(f"{params}: students.{each}", table)
    team = Team.of(os.environ)
    device = choose_device(rows[name].device, team.local_rank)
    for each, row in rows.items():
        if row.fit.compile:
            check_compiler(device, f"{params}: students.{each}.fit.compile")
    _check_team(team, rows, f"{params}: students")
    team.connect(device, rows[name].fit.batch_size, f"{params}: students.{name}")
    dataset = ImageDataset(data)
    stores = {each: _open_store(labels, row, f"{params}: students.{each}") for each, row in rows.items()}
    check_alike(rows, stores, f"{params}: students", dataset.manifest.num_unlabelled)
    for each, row in rows.items():
        row.check_data(dataset.manifest.num_unlabelled, f"{params}: students.{each}")
    scratches = {
        each: Scratch(
            out / each, decides, work, [reports / f"{each}.json", reports / f"{each}.tsv"], code=Path(__file__)
        )
        for each, decides in _decides(rows, stores, dataset, device, f"{params}: students").items()
    }
    with team.open(scratches[name]) as unfinished:
        if not unfinished:
            return
        row, where = rows[name], f"{params}: students.{name}.memory_budget_mb"
        budget = MemoryBudget.of_megabytes(row.memory_budget_mb, row.fit.batch_size, where)
        students = Students(rows, stores, scratches, dataset, budget, device, team, f"{params}: students")
        own = students.start(name)
        with ExitStack() as held:
            others = {} if own.run.finished else students.join(held, besides=name)
            several = [own, *others.values()]
            size, seed = rows[name].fit.batch_size, rows[name].seed
            views = [s.views for s in several]
            together = batches_together(views, device, batch_size=size, seed=seed, share=team.share)
            result = fit([s.run for s in several], together)[0]
        if not team.is_first:
            return
        own.write(scratches[name].output, reports / name, result)
        scratches[name].publish()
        if others:
            how = "`dvc repro`, or this command with their names, puts them in place"
            say(f"train_student@{name}: trained in the same pass: {', '.join(others)}; {how}")


class Student(NamedTuple):
    """A student in training, and what is to be said of it."""

    run: Trainer[LabelledBatch]
    views: LabelledViews
    meta: ModelMeta
    chosen: dict[str, Any]

    def write(self, folder: Path, reports: Path, result: FitResult) -> None:
        history = result.state.history
        figures = {
            "last": history[-1]["val_accuracy"],
            "best": result.state.best_accuracy,
            "best_epoch": result.state.best_epoch + 1,
        }
        write_model(folder, self.meta.trained(result.state.precision, figures), result.last, best=result.best)
        write_reports(reports, result, {"val": figures} | self.chosen)


class Students:
    """Those that are trained at once: a row of the table and the rest of its group, on one data set."""

    def __init__(
        self,
        rows: dict[str, TrainStudent],
        stores: dict[str, StoreReader],
        scratches: dict[str, Scratch],
        dataset: ImageDataset,
        budget: MemoryBudget,
        device: torch.device,
        team: Team,
        where: str,
    ) -> None:
        self._rows, self._stores, self._scratches, self._device = rows, stores, scratches, device
        self._team, self._where = team, where
        self._manifest, self._budget = dataset.manifest, budget
        needed = {row.labels: label_bytes(stores[name]) for name, row in rows.items() if row.soft_weight}
        self._train, self._val = open_splits(dataset, budget, sum(needed.values()))
        has_place = has_room(device, self._train.held_bytes)
        self._resident = self._train.to(device) if has_place else self._train
        self._views: dict[tuple[str, float | None], LabelledViews] = {}

    def start(self, name: str) -> Student:
        """A student as its scratch folder has it, or fresh."""
        settings, scratch, team = self._rows[name], self._scratches[name], self._team
        where, recipe = f"{self._where}.{name}", _recipe(settings)
        begin = team.ask_first(lambda: Start.of(settings, self._manifest, recipe, scratch.output, where))
        meta = begin.meta
        chosen: dict[str, Any] = {}
        if settings.temperature == "auto":
            choice = team.ask_first(lambda: self._choose_temperature(name, begin))
            settings, chosen = replace(settings, temperature=choice.temperature), choice.to_dict()
            meta = replace(meta, settings=meta.settings | chosen)
        views = self._labelled_views(name, settings)
        task = StudentTask(settings, views, self._val, self._device, team)
        torch.manual_seed(settings.seed + team.rank)  # of dropout and the like
        title = f"train_student@{name}"
        if views.num_samples < len(self._train):
            told = f"on the {views.num_samples:,} labelled of {len(self._train):,} images"
            say(f"{title}: hard labels alone, so {told}: {task.steps_per_epoch:,} steps per epoch")
        head = begin.head_for(settings.fit)
        model = begin.build(settings.seed)
        run = Trainer(model, task, settings.fit, Workplace(scratch.folder, self._device, title, team), head)
        return Student(run, views, meta, chosen)

    def _choose_temperature(self, name: str, begin: Start) -> Choice:
        """By short trials of this very student: the same weights at first, the same views in the same order. One process
        alone makes them, and so comes to the same choice in whatever team."""
        settings, store, title = self._rows[name], self._stores[name], f"train_student@{name}"
        loss = settings.loss | asdict(build_loss(settings.loss, "loss").warmed_up())

        def try_one(temperature: float, scratch: Path) -> FitResult:
            row = replace(settings, temperature=temperature, loss=loss)
            whole = StudentTask(row, self._labelled_views(name, row), self._val, self._device)
            task, recipe = shorten(whole, row.fit, self._device)
            torch.manual_seed(row.seed)
            trial = f"{title}, pilot at temperature {temperature:g}"
            head = begin.head_for(recipe)
            run = Trainer(begin.build(row.seed), task, recipe, Workplace(scratch, self._device, trial), head)
            return fit([run])[0]

        candidates = store.codec_temperatures or [store.manifest.temperature]
        folder = self._scratches[name].folder / "pilot"
        return choose_temperature(candidates, try_one, num_samples=len(self._val), folder=folder, name=title)

    def _labelled_views(self, name: str, settings: TrainStudent) -> LabelledViews:
        """The same object for the same labels at the same temperature."""
        temperature = settings.known_temperature if settings.soft_weight else None
        key = (settings.labels, temperature)
        if key not in self._views:
            classes = self._manifest.class_names
            self._views[key] = LabelledViews(
                self._train, self._stores[name], classes, temperature, self._device, self._budget, self._resident
            )
        return self._views[key]

    def join(self, held: ExitStack, *, besides: str) -> dict[str, Student]:
        """The others of the group that are to be trained too, their scratches held: not those that are published or
        trained already, nor those that another process is at work on."""
        free = self._team.ask_first(
            lambda: [name for name in self._scratches if name != besides and self._hold(held, name)]
        )
        joined = {name: self.start(name) for name in free}
        return {name: student for name, student in joined.items() if not student.run.finished}

    def _hold(self, held: ExitStack, name: str) -> bool:
        """Holds a scratch folder if there is work to do in it; whether that is so."""
        scratch = self._scratches[name]
        if not scratch.outdated:
            return False
        if not held.enter_context(scratch.attempt()):
            say(f"train_student@{name}: another process is at work on this; its group goes on without it")
            return False
        return not scratch.done


def _rows(name: str, params: Path) -> dict[str, TrainStudent]:
    """The student's row, then those of its group."""
    own = load_row(TrainStudent, "students", name, params)
    if own.group is None:
        return {name: own}
    table = load_table(dict, "students", params)
    others = {each: row for each, row in table.items() if row.get("group") == own.group and each != name}
    return {
        name: own,
        **{each: validate(TrainStudent, row, f"{params}: students.{each}") for each, row in others.items()},
    }


def _check_team(team: Team, rows: dict[str, TrainStudent], where: str) -> None:
    """Raises ConfigError where a loss compares the examples of a batch, of which each process has a share."""
    for name, row in rows.items():
        loss = build_loss(row.loss, f"{where}.{name}.loss")
        if team.world > 1 and row.soft_weight and loss.compares_examples:
            found = f"compares the examples of a batch, which {team.world} processes share among them"
            raise ConfigError(f"{where}.{name}.loss", f"kind {loss.kind!r} {found}", fix="train it without torchrun")


def _recipe(settings: TrainStudent) -> dict[str, Any]:
    """The settings that decide what a student comes to: in company it is the one that it would be alone."""
    return {key: value for key, value in asdict(settings).items() if key != "group"}


def _decides(
    rows: dict[str, TrainStudent],
    stores: dict[str, StoreReader],
    dataset: ImageDataset,
    device: torch.device,
    where: str,
) -> dict[str, dict[str, Any]]:
    """What the fingerprint of each student's scratch is made of."""
    shared = {"data": dataset.manifest.fingerprints, "device": device.type}
    return {
        name: {
            "settings": _recipe(row),
            "store": file_fingerprint(stores[name].path / "zarr.json"),
            "origins": origins(row, f"{where}.{name}"),
            **shared,
        }
        for name, row in rows.items()
    }


def _open_store(labels: str, settings: TrainStudent, where: str) -> StoreReader:
    if is_url(labels):
        store = StoreReader(f"{labels.rstrip('/')}/{settings.labels}.zarr")
    else:
        path = Path(labels, f"{settings.labels}.zarr")
        if not path.exists():
            there = sorted(p.stem for p in Path(labels).glob("*.zarr"))
            if not there:
                raise StoreError(path, "no such store, nor any other", fix="run `dvc repro dump_labels`")
            fix = f"fix {where}.labels"
            raise StoreError(path, "no such store", expected=suggest(settings.labels, there), fix=fix)
        store = StoreReader(path)
    settings.check_labels(store.encoding, store.codec, store.views.mixes, where)
    return store


if __name__ == "__main__":
    run_stage(main)
