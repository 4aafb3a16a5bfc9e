"""Students in training: one, or a group that is trained in one pass over the same batches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Integer

from pipeline.core.files import file_fingerprint
from pipeline.core.progress import say
from pipeline.core.scratch import Scratch
from pipeline.data.manifest import DatasetManifest
from pipeline.labels.reader import StoreReader
from pipeline.models import Classifier, load_weights
from pipeline.models.answers import SOME, write_checked
from pipeline.models.saved import ModelMeta
from pipeline.signals.chance import chance_line
from pipeline.student.batches import LabelledBatch
from pipeline.student.data import StudentData
from pipeline.student.feature_losses import build_feature_loss
from pipeline.student.labelled_views import LabelledViews, shared_batches
from pipeline.student.losses import build_loss
from pipeline.student.pilots import shorten
from pipeline.student.projected import Projected, own_weights
from pipeline.student.settings import TrainStudent
from pipeline.student.shown_views import views_line
from pipeline.student.task import StudentTask
from pipeline.student.temperature import Choice, choose_temperature
from pipeline.student.weights import HALVES, Pair, choose_weights, words
from pipeline.training.fit import fit, write_reports
from pipeline.training.recipe import FitSettings
from pipeline.training.run import FitResult, Workplace
from pipeline.training.start import Start, origins
from pipeline.training.task import Task
from pipeline.training.team import Team
from pipeline.training.trainer import Trainer


@dataclass(frozen=True)
class Plan:
    """A student that is to be trained: its row of the table, its store, its folder.

    Args:
        where: The row's place in `params.yaml`.
        features: The store of embeddings, where the row names one.
    """

    name: str
    settings: TrainStudent
    store: StoreReader
    scratch: Scratch
    where: str
    features: StoreReader | None = None

    @property
    def title(self) -> str:
        """The student's name in messages."""
        return f"train_student@{self.name}"


def deciding_inputs(
    settings: TrainStudent,
    store: StoreReader,
    data: DatasetManifest,
    device: torch.device,
    where: str,
    features: StoreReader | None = None,
) -> dict[str, Any]:
    """Returns all that decides a student's weights, the code apart: its scratch is named by it."""
    learned = {} if features is None else {"features": file_fingerprint(features.path / "zarr.json")}
    return learned | {
        "settings": settings.recipe(),
        "store": file_fingerprint(store.path / "zarr.json"),
        "origins": origins(settings, where),
        "data": data.fingerprints,
        "device": device.type,
    }


@dataclass(frozen=True)
class Student:
    """A student in training.

    Args:
        model: Its network, which the run trains.
        images: A few, by which the network is judged before it is written.
        meta: The description of its network, which is written beside the weights.
        chosen: What trials were to choose, and these trials: for the report.
    """

    run: Trainer[LabelledBatch]
    model: Classifier
    images: Integer[torch.Tensor, "some ..."]
    views: LabelledViews
    meta: ModelMeta
    chosen: dict[str, Any]

    def write(self, folder: Path, reports: Path, result: FitResult) -> None:
        """Writes the trained network into a folder, and `<reports>.json` and `<reports>.tsv`."""
        figures = {
            "last": result.state.history[-1][f"val_{self.views.signal.headline}"],
            "best": result.state.best_value,
            "best_epoch": result.state.best_epoch + 1,
        }
        load_weights(self.model, own_weights(result.last), folder)
        meta = self.meta.trained(result.state.precision, figures)
        write_checked(folder, meta, self.model, self.images, best=own_weights(result.best))
        write_reports(reports, result, {"val": figures} | self.chosen)


@dataclass(frozen=True)
class Trained:
    """A trained student, and the names of those that were trained in the same pass."""

    student: Student
    result: FitResult
    others: Sequence[str]


class Students:
    """The students of a group on one data set; one alone is a group too."""

    def __init__(self, plans: Mapping[str, Plan], data: StudentData, team: Team) -> None:
        self._plans, self._data, self._team = plans, data, team
        self._views: dict[tuple[str, float | None, str | None], LabelledViews] = {}

    def train(self, name: str) -> Trained:
        """Trains a student and, in the same pass, the others of its group that have work to do."""
        # 1. The student as its scratch folder has it.
        own = self.start(name)
        with ExitStack() as held:
            # 2. The others, whose scratch folders are locked until the pass is over.
            others = {} if own.run.finished else self._join(held, besides=name)
            several = [own, *others.values()]
            # 3. One pass for all of them.
            settings = self._plans[name].settings

            def batches(places: Sequence[int], epoch: int, start: int) -> Iterator[tuple[LabelledBatch, ...]]:
                views = [several[place].views for place in places]
                size, seed = settings.fit.batch_size, settings.seed
                return shared_batches(views, epoch, start, batch_size=size, seed=seed, share=self._team.share)

            result = fit([student.run for student in several], batches)[0]
        signal = own.views.signal
        found = result.state.history[-1][f"val_{signal.headline}"]
        if not settings.learns_classes:
            return Trained(own, result, list(others))
        if line := chance_line(found, self._data.val.hard_labels, signal):
            say(f"{self._plans[name].title}: {line}")
        return Trained(own, result, list(others))

    def start(self, name: str) -> Student:
        """Returns a student as its scratch folder has it, or before its first step."""
        plan, team, device = self._plans[name], self._team, self._data.device
        settings, folder = plan.settings, plan.scratch.output
        # 1. The network, and what trials are to choose.
        data = self._data
        begin = team.ask_first(
            lambda: Start.of(settings, data.manifest, folder, plan.where, prepared=data.folder)
        ).with_recipe(settings.recipe())
        model, images = begin.build(settings.seed), self._data.val.first(SOME)
        begin.check(model, images)
        meta = begin.meta
        chosen: dict[str, Any] = {}
        if settings.temperature == "auto" or settings.has_auto_weights:
            settings, chosen = team.ask_first(lambda: self._choose(plan, begin))
            meta = replace(meta, settings=meta.settings | chosen)
        # 2. The batches.
        views = self._labelled_views(plan, settings)
        task = StudentTask(settings, views, self._data.val, device, team)
        if views.num_samples < len(self._data.train):
            found = f"on the {views.num_samples:,} labelled of {len(self._data.train):,} samples"
            say(f"{plan.title}: hard labels alone, so {found}: {task.steps_per_epoch:,} steps per epoch")
        if line := views_line(settings, plan.store.views, plan.store.manifest.num_views):
            say(f"{plan.title}: {line}")
        # 3. The run. Each process draws its own dropout; the weights come from the seed alone.
        torch.manual_seed(settings.seed + team.rank)
        workplace = Workplace(plan.scratch.folder, device, plan.title, team, plan.where)
        run = _trainer(plan, begin, model, task, settings.fit, workplace)
        return Student(run, model, images, task.views, meta, chosen)

    def _choose(self, plan: Plan, begin: Start) -> tuple[TrainStudent, dict[str, Any]]:
        """Returns a row with what short trials of this very student choose, and their figures.

        All start from the same weights and see the same views in the same order. One process alone
        makes them, so that a team of any size comes to the same choice.
        """
        row = plan.settings
        folder, count = plan.scratch.folder / "pilot", len(self._data.val)
        # 1. The temperature.
        temperatures = plan.store.codec_temperatures or [plan.store.manifest.temperature]
        tried, chosen = Choice(row.with_numbers(temperatures[0]).known_temperature, {}), dict[str, Any]()
        if row.temperature == "auto":

            def at(temperature: float, scratch: Path) -> FitResult:
                return self._try(plan, begin, row.with_numbers(temperature), scratch)

            tried = choose_temperature(temperatures, at, num_samples=count, folder=folder, name=plan.title)
            row, chosen = replace(row, temperature=tried.temperature), tried.to_dict()
        # 2. The weights, at this temperature.
        if row.has_auto_weights:

            def weighted(pair: Pair, scratch: Path) -> FitResult:
                return self._try(plan, begin, replace(row, hard_weight=pair[0], soft_weight=pair[1]), scratch)

            known = {HALVES: tried.pilots[tried.temperature]} if tried.pilots else {}
            pair = choose_weights(weighted, known=known, num_samples=count, folder=folder, name=plan.title)
            row, chosen = replace(row, hard_weight=pair.pair[0], soft_weight=pair.pair[1]), chosen | pair.to_dict()
        return row, chosen

    def _try(self, plan: Plan, begin: Start, row: TrainStudent, scratch: Path) -> FitResult:
        """Trains a student for a short time by a row without `auto`."""
        device = self._data.device
        row = replace(row, loss=row.loss | asdict(build_loss(row.loss, "loss").warmed_up()))
        whole = StudentTask(row, self._labelled_views(plan, row), self._data.val, device)
        task, recipe = shorten(whole, row.fit, device)
        torch.manual_seed(row.seed)
        settings = f"temperature {row.known_temperature:g}"
        if plan.settings.has_auto_weights:
            settings += f" and weights {words(row.known_weights)}"
        workplace = Workplace(scratch, device, f"{plan.title}, pilot at {settings}", where=plan.where)
        return fit([_trainer(plan, begin, begin.build(row.seed), task, recipe, workplace)])[0]

    def _labelled_views(self, plan: Plan, settings: TrainStudent) -> LabelledViews:
        """Returns views with labels: one object for the same labels at the same temperature."""
        key = (settings.labels, settings.read_temperature, settings.features)
        if key not in self._views:
            self._views[key] = self._data.labelled(plan.store, settings, plan.features)
        return self._views[key]

    def _join(self, held: ExitStack, *, besides: str) -> dict[str, Student]:
        """Returns the others of the group that have work to do, and holds their scratch folders.

        Left out are those that are published or trained already, and those that another process is
        at work on.
        """
        free = self._team.ask_first(
            lambda: [name for name in self._plans if name != besides and self._hold(held, self._plans[name])]
        )
        joined = {name: self.start(name) for name in free}
        return {name: student for name, student in joined.items() if not student.run.finished}

    def _hold(self, held: ExitStack, plan: Plan) -> bool:
        """Holds a scratch folder if there is work to do in it; returns whether there is."""
        if not plan.scratch.outdated:
            return False
        if not held.enter_context(plan.scratch.attempt()):
            say(f"{plan.title}: another process is at work on this; its group goes on without it")
            return False
        return not plan.scratch.done


def _trainer(
    plan: Plan, begin: Start, model: Classifier, task: Task[LabelledBatch], recipe: FitSettings, workplace: Workplace
) -> Trainer[LabelledBatch]:
    """Returns the training of a student: of itself, or with a projection of its embedding."""
    head = begin.head_for(recipe)
    if plan.features is None:
        return Trainer(model, task, recipe, workplace, head)
    loss = build_feature_loss(plan.settings.feature_loss, f"{plan.where}.feature_loss")
    dimensions = plan.features.encoding.num_values(plan.features.manifest.space) if loss.projects else None
    embedded = begin.meta.embedded(model, begin.folder)
    projected = Projected(embedded, begin.meta.blank(), dimensions, plan.settings.seed)
    return Trainer(projected, task, recipe, workplace, projected.head_for(head))
