"""Students of few stored views and of foreign teachers, by recipe.

    CIFAR10_ARCHIVE=cifar10-jpeg.tar.xz python -m benchmarks.few_views --device cuda
    CIFAR10_ARCHIVE=... python -m benchmarks.few_views --small      # a rehearsal on a processor

Fashion-MNIST and its teacher are those that `make repro` left; without them, and without the
archive of CIFAR-10 (see `cifar_teacher`), their part is left out. Every case trains one student;
its figures go to work/few_views/results.jsonl at once, so that the command can be killed and
started again, and `--seconds` ends it. Test figures choose nothing.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks.cifar_teacher import LABEL_VIEWS, NUM_HELD_OUT, archive_by_environment, read_archive
from benchmarks.few_views_cases import RECIPES, Case, cases, epochs_of
from benchmarks.few_views_tables import tables, with_auto
from benchmarks.foreign_teachers import KINDS, teach
from benchmarks.measure import machine, report
from benchmarks.scheduled import Bank, Schedule, Student, train_all
from pipeline.core.config import load_row, load_section
from pipeline.core.errors import one_line_errors
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.settings import DumpLabels
from pipeline.models import Classifier, ClassifierSpec
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.preparation.statistics import channel_statistics
from pipeline.signals.metrics import classification_metrics
from pipeline.student.settings import TrainStudent
from pipeline.teacher.calibration import fit_temperature
from pipeline.views.plan import view_batches
from pipeline.views.spec import ViewSpec

FOLDER = Path("work")
_AT_ONCE = 2_000  # images that are rendered or predicted together


@dataclass
class Data:
    """A data set with its views rendered, and the logits of its teachers, on a device."""

    train: SplitInMemory
    val: SplitInMemory
    test: SplitInMemory
    views: torch.Tensor
    logits: dict[str, torch.Tensor] = field(default_factory=dict)
    temperatures: dict[str, float] = field(default_factory=dict)
    teachers: dict[str, dict[str, float]] = field(default_factory=dict)

    @cached_property
    def bank(self) -> Bank:
        device = self.views.device
        logits = torch.cat([each.flatten(0, 1) for each in self.logits.values()]).to(device)
        judged = {"val": self.val, "test": self.test}
        splits = {name: (split.inputs, split.hard_labels.to(device)) for name, split in judged.items()}
        return Bank(self.views.flatten(0, 1), logits, self.train.hard_labels.to(device), splits)

    def first_labels(self, teacher: str) -> int:
        """Returns the number of the label set of a teacher's first view."""
        names = list(self.logits)
        return sum(len(self.logits[name]) for name in names[: names.index(teacher)])

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Returns mean and standard deviation of the channels."""
        return channel_statistics(self.train.inputs.cpu().numpy())

    def network(self, model: str, settings: dict[str, Any], seed: int) -> Classifier:
        """Returns a student's network before its first step."""
        mean, std = self.statistics
        classes, channels = self.bank.logits.shape[1], self.views.shape[2]
        return ClassifierSpec(model, settings, num_classes=classes, channels=channels, mean=mean, std=std).build(seed)


def _folder(small: bool) -> Path:
    return FOLDER / ("few_views_small" if small else "few_views")


def _render(split: SplitInMemory, spec: ViewSpec, count: int) -> torch.Tensor:
    everything = range(len(split))
    views = [torch.cat([*view_batches(split, spec, view, everything, _AT_ONCE)]) for view in range(count)]
    return torch.stack(views)


def fashion_mnist(device: torch.device, num_views: int, images: int | None) -> Data:
    """Returns what `make repro` left, every view with the logits of its teacher."""
    dataset, teacher = (
        ImageDataset(Path("data/prepare")),
        read_model(Path("data/train_teacher"), made_by="train_teacher"),
    )
    train, val, test = (_cut(dataset.split(name), images).to(device) for name in ("train", "val", "test"))
    teacher = teacher.to(device)
    data = Data(train, val, test, _render(train, load_section(DumpLabels, "dump_labels").views, num_views))
    logits = [predict_logits(teacher, iter(view.split(_AT_ONCE)), device) for view in data.views]
    held_out = predict_logits(teacher, val.in_order(_AT_ONCE), device)
    data.logits["ours"] = torch.stack(logits)
    data.temperatures["ours"] = fit_temperature(held_out, val.hard_labels.cpu())
    data.teachers["ours"] = classification_metrics(held_out, val.hard_labels.cpu())
    return data


def cifar10(device: torch.device, num_views: int, images: int | None) -> Data:
    """Returns CIFAR-10 with its first views labelled by the foreign teachers."""
    archive = archive_by_environment()
    assert archive is not None, "the caller has looked"
    everything, test, _ = read_archive(archive)
    rows = torch.arange(len(everything)).numpy()
    train, val = everything.take(rows[:-NUM_HELD_OUT]), everything.take(rows[-NUM_HELD_OUT:])
    train, val, test = (_cut(split, images).to(device) for split in (train, val, test))
    data = Data(train, val, test, _render(train, LABEL_VIEWS, num_views))
    for name, kind in KINDS.items():
        recipe = kind if images is None else replace(kind, width=4, epochs=2)
        taught = teach(name, recipe, data.views, train, val, _folder(images is not None))
        data.logits[name], data.temperatures[name] = taught.logits, taught.temperature
        data.teachers[name] = taught.figures
    return data


def _cut(split: SplitInMemory, images: int | None) -> SplitInMemory:
    return split if images is None else split.take(torch.arange(min(images, len(split))).numpy())


class Results:
    """The figures of finished cases, by case, in a file that grows line by line."""

    def __init__(self, path: Path) -> None:
        self._path, self.rows = path, []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]
        self._done = {self._key(row) for row in self.rows}

    @staticmethod
    def _key(row: dict[str, Any]) -> str:
        return json.dumps([row[each.name] for each in fields(Case)])

    def has(self, case: Case) -> bool:
        return self._key(asdict(case)) in self._done

    def add(self, case: Case, figures: dict[str, float]) -> None:
        self.rows.append(asdict(case) | figures)
        self._done.add(self._key(self.rows[-1]))
        with self._path.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")


class Classroom:
    """The students of one network on one data set, used for one case after the other."""

    def __init__(self, data: Data, wanted: list[Case], streams: int) -> None:
        self._data, self._row = data, load_row(TrainStudent, "students", wanted[0].student)
        self._orders = _Orders(self._row.fit.batch_size)
        longest = self._schedule(max(wanted, key=lambda case: case.epochs * case.images))

        def students(count: int) -> list[Student]:
            return [Student(self._network(0), data.bank, self._row.fit, longest) for _ in range(count)]

        self._students = students(streams)
        try:
            for student in self._students:
                student.capture(longest)
        except RuntimeError as error:
            say(f"few_views: no graph of a step ({error}); one student at a time")
            self._students = students(1)

    def train(self, wanted: list[Case], results: "Results", ends: float) -> None:
        """Trains the cases that are not done, until time is up."""
        wanted = [case for case in wanted if not results.has(case)]
        start, before = time.monotonic(), len(results.rows)
        train_all(self._students, self._jobs(wanted, results, ends))
        count, seconds = len(results.rows) - before, time.monotonic() - start
        if wanted:
            say(f"few_views: {wanted[0].part}: {count} of {len(wanted)} students in {seconds:.0f} s")

    def _jobs(
        self, wanted: list[Case], results: "Results", ends: float
    ) -> Iterator[Callable[[Student], Callable[[dict[str, float]], None]]]:
        for case in wanted:
            if time.monotonic() > ends:
                return
            schedule = self._schedule(case)

            def begin(student: Student, case: Case = case, schedule: Schedule = schedule) -> Any:
                student.begin(self._network(case.seed), schedule)
                return lambda figures: results.add(case, figures)

            yield begin

    def _network(self, seed: int) -> Classifier:
        return self._data.network(self._row.model, self._row.model_settings, seed)

    def _schedule(self, case: Case) -> Schedule:
        data, fit, images = self._data, self._row.fit, min(case.images, len(self._data.train))
        epochs = epochs_of(case, data.first_labels(case.teacher), data.temperatures[case.teacher])
        if case.steps is not None:  # a pilot has a schedule of its own, as that of `temperature: auto`
            return Schedule.of(epochs[:1], [self._orders.of(images, case.seed, 0)[: case.steps]], fit)
        return Schedule.of(epochs, [self._orders.of(images, case.seed, epoch) for epoch in range(case.epochs)], fit)


class _Orders:
    """The order of the samples in an epoch, by seed: the same for every recipe."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._kept = batch_size, dict[tuple[int, int, int], torch.Tensor]()

    def of(self, images: int, seed: int, epoch: int) -> torch.Tensor:
        key = (images, seed, epoch)
        if key not in self._kept:
            generator = torch.Generator().manual_seed(1_000 * seed + epoch)
            steps = max(1, images // self._batch_size)
            order = torch.randperm(images, generator=generator)[: steps * self._batch_size]
            self._kept[key] = order.view(steps, -1)
        return self._kept[key]


def main(
    device: str = "cpu",
    seconds: float = 280.0,
    streams: int = typer.Option(16, help="Students at once on a card."),
    seeds: int = 3,
    small: bool = typer.Option(False, help="A rehearsal: few images, epochs and cases."),
) -> None:
    began, where = time.monotonic(), torch.device(device)
    torch.set_num_threads(1 if where.type == "cpu" else 8)
    folder = _folder(small)
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "results.jsonl")
    images = 600 if small else None
    makers = {
        "fashion_mnist": (fashion_mnist, Path("data/train_teacher"), 20),
        "cifar10": (cifar10, archive_by_environment(), 12),
    }
    sets: dict[str, Data] = {}
    for name, (make, needed, num_views) in makers.items():
        if needed is None or not needed.exists():
            say(f"few_views: {name} is left out: {needed or 'CIFAR10_ARCHIVE'} is not there")
            continue
        sets[name] = make(where, num_views, images)
        say(f"few_views: {name} is ready after {time.monotonic() - began:.0f} s")
    ends = began + 0.92 * seconds
    left = [case for case in cases(seeds, small=small) if case.data in sets]
    rooms: dict[tuple[str, str], Classroom] = {}
    for key, _ in groupby(left, key=lambda case: (case.part, case.data, case.student)):
        own = [case for case in left if (case.part, case.data, case.student) == key]
        if key[1:] not in rooms:
            of_network = [case for case in left if (case.data, case.student) == key[1:]]
            rooms[key[1:]] = Classroom(sets[key[1]], of_network, streams if where.type == "cuda" else 1)
        rooms[key[1:]].train(own, results, ends)
    teachers = {name: {each: data.teachers[each] for each in data.logits} for name, data in sets.items()}
    missing = sum(not results.has(case) for case in left)
    judged = with_auto(results.rows, {name: len(data.val) for name, data in sets.items()})
    for name, rows in tables(judged).items():
        report(
            f"few_views_{name.replace(', ', '_')}{'_small' * small}", f"{name}; {missing} cases not run", rows, where
        )
    content = {"machine": machine(), "teachers": teachers, "recipes": {k: asdict(v) for k, v in RECIPES.items()}}
    write_json(folder / "few_views.json", content | {"missing": missing, "rows": results.rows})
    say(f"few_views: {len(results.rows)} students, {missing} not trained; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
