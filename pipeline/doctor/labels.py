"""Label stores before they are written: the labels that students will find in them, and some to
measure.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from pipeline.core.errors import ConfigError, PipelineError, suggest
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.doctor.budgets import choose_now, stand_in
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders
from pipeline.doctor.images import Look, spread
from pipeline.doctor.params import Params
from pipeline.labelling.at_once import samples_at_once
from pipeline.labelling.first_views import FirstViews, counts_to_try, make_anchors
from pipeline.labelling.pilot import Pilot, ask_pilot
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.stores import passed_over, unfit_encodings
from pipeline.labelling.teacher import Teacher, label_rows
from pipeline.labels.encodings import Budget, Codec, Encoding, EncodingRow, LabelSpace, budgets_of, encodings_of
from pipeline.labels.fields import Labels, encode_logits
from pipeline.labels.notes import told_notes
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.saved import read_meta
from pipeline.student.settings import TrainStudent
from pipeline.views.spec import ViewSpec

MEASURED = 2000  # labels
_LABELLING_SECONDS = 10.0  # that the teacher may take for labels to be measured
_SPREAD_NATS = 3.0  # of made-up logits
_ALIKE_PX = 8  # the side of what looks alike in a made-up map of logits
_MOST_VIEWS = 16  # spread over a dump's, from which labels are taken


@dataclass(frozen=True)
class LabelStore:
    """A store that is there, or that the dump will write.

    Attributes:
        budget: The budget by which the dump is yet to choose an encoding; the one here stands in
            for it.
    """

    encoding: Encoding
    codec: Codec
    views: ViewSpec
    num_views: int
    budget: Budget | None = None

    def labels(self, count: int) -> Labels:
        """Returns so many made-up labels, in the form in which the store keeps them."""
        ids, logits = np.arange(1, count + 1, dtype=np.uint64), random_logits(count, self.codec.space)
        anchors: Labels = {}
        if self.encoding.anchor_views:
            anchors = make_anchors(self.codec, self.codec.space.signal.values(logits, 1.0))
        return encode_logits(self.codec, logits, ids, 0, anchors)


@dataclass(frozen=True)
class SomeLabels:
    """A few labels to measure encodings with, at the stored temperature, and their source.

    Attributes:
        first_views: What anchors of these labels are made of.
    """

    values: Float[torch.Tensor, "labels classes *grid"]
    space: LabelSpace
    source: str
    first_views: FirstViews

    @property
    def pilot(self) -> Pilot:
        """The same labels, as encodings are chosen by them."""
        return Pilot(self.values, first_views=self.first_views.take)


def random_logits(count: int, space: LabelSpace) -> Float[torch.Tensor, "labels classes *grid"]:
    """Returns made-up logits, the same ones every time; of a grid such as change slowly over it."""
    generator = torch.Generator().manual_seed(0)
    if space.positions is None:
        return _SPREAD_NATS * torch.randn(count, space.num_classes, generator=generator)
    sides = [-(-side // _ALIKE_PX) for side in space.positions]
    coarse = _SPREAD_NATS * torch.randn(count, space.num_classes, *sides, generator=generator)
    return F.interpolate(coarse, size=space.positions, mode="bilinear")


def _num_made_up(space: LabelSpace) -> int:
    """Returns how many labels are made up; of a grid fewer, each of which has many positions."""
    return MEASURED if space.positions is None else max(2, samples_at_once(space, MEASURED) // 8)


def plan_stores(
    params: Params, dump: DumpLabels, look: Look, findings: Findings, labels: SomeLabels | None = None
) -> dict[str, LabelStore]:
    """Returns the stores of those rows of `encodings` that fit the classes.

    Reports the other rows, and views that do not fit the images.

    Args:
        labels: The teacher's, by which encodings are chosen for budgets; None: there are none yet.
    """
    space, where = dump.space_of(look.data), f"{params.path}: dump_labels"
    findings.attempt(dump.views.check, look.data.image_shape, f"{where}.views", look.data.kind)
    unfit = unfit_encodings(params.encodings, space, f"{params.path}: encodings")
    named = {row.labels for row in params.students.values()}
    for name, fault in unfit.items():
        if name in named or len(unfit) == len(params.encodings):
            findings.error(fault)
        else:
            findings.warning(passed_over(fault))
    known = encodings_of(params.encodings).items()  # the size of embeddings is known when the teacher is
    encodings = {name: row for name, row in known if name not in unfit and not row.is_of_embeddings}
    budgets = {name: row for name, row in budgets_of(params.encodings).items() if name not in unfit}
    num_train = look.data.num_samples["train"]
    if labels is not None:
        encodings |= choose_now(budgets, labels.pilot, space, dump, num_train, findings)
    stores = {
        name: LabelStore(each, _codec(each, space), dump.views, dump.num_views) for name, each in encodings.items()
    }
    for name, budget in budgets.items():
        if name not in stores:
            likely = stand_in(budget, space)
            stores[name] = LabelStore(likely, _codec(likely, space), dump.views, dump.num_views, budget)
    return stores


def _codec(encoding: Encoding, space: LabelSpace) -> Codec:
    values = space.signal.values(random_logits(_num_made_up(space), space), 1.0)
    return encoding.codec(space, encoding.learn(values, space))


def find_store(row: TrainStudent, planned: Mapping[str, LabelStore], folder: Path, where: str) -> LabelStore:
    """Returns the store that a student names.

    Raises ConfigError or StoreError where there is none, and will be none.
    """
    if row.labels in planned:
        return planned[row.labels]
    path = folder / f"{row.labels}.zarr"
    if path.exists():
        store = StoreReader(path)
        return LabelStore(store.encoding, store.codec, store.views, store.manifest.num_views)
    there = {*planned, *(other.stem for other in folder.glob("*.zarr"))}
    expected = f"a row of `encodings`, or a store in {folder}, {suggest(row.labels, sorted(there))}"
    raise ConfigError(f"{where}.labels", repr(row.labels), expected=expected)


def notes_about(row: TrainStudent, folder: Path, where: str) -> list[str]:
    """Returns the lines about the labels that a student names, which the student prints, too.

    A store that can't be read is found by other checks.
    """
    path = folder / f"{row.labels}.zarr"
    with suppress(PipelineError):
        return told_notes(StoreReader(path).manifest, f"{where}.labels") if path.exists() else []
    return []


def wanted_first_views(rows: Mapping[str, EncodingRow], num_views: int) -> set[int]:
    """Returns the numbers of first views whose mean predictions are needed to try some rows."""
    named = {row.anchor_views for row in encodings_of(rows).values()} - {0}
    return named | ({*counts_to_try(range(num_views))} if budgets_of(rows) else set())


def made_up_labels(space: LabelSpace, anchor_views: Collection[int] = ()) -> SomeLabels:
    """Returns labels of random logits, half of which all views of a sample share."""
    count = _num_made_up(space)
    own, shared = random_logits(2 * count, space).split(count)
    values, mean = (space.signal.values(each, space.temperature) for each in (own, (own + shared) / 2))
    first_views = FirstViews(dict.fromkeys(anchor_views, mean), torch.arange(count))
    return SomeLabels(values, space, "measured on made-up ones: no teacher yet", first_views)


def teacher_labels(
    dump: DumpLabels, look: Look, folders: Folders, findings: Findings, anchor_views: Collection[int] = ()
) -> SomeLabels | None:
    """Returns the present teacher's labels of some views; None where no teacher fits this data.

    Args:
        anchor_views: The numbers of first views whose mean predictions are asked for, too.
    """
    if not (folders.teacher / "meta.json").exists():
        return None

    def ask() -> SomeLabels | None:
        meta = read_meta(folders.teacher, made_by="train_teacher")
        if (meta.class_names, meta.image_shape, meta.signal, meta.input) != (
            look.data.class_names,
            look.data.image_shape,
            look.data.signal,
            look.data.input,
        ):
            findings.warning(
                f"{folders.teacher}: was trained for other classes or {look.things}; `dvc repro train_teacher` makes it again"
            )
            return None
        device = choose_device(dump.device)
        teacher = Teacher.read(folders.teacher, device, dump.batch_size, dump.precision)
        some = _as_many_as_there_is_time_for(teacher, dump, folders.data, look, 1 + max(anchor_views, default=0))
        views = np.unique(np.linspace(0, dump.num_views - 1, _MOST_VIEWS).round().astype(int)).tolist()
        space = dump.space_of(look.data)
        pilot = ask_pilot(teacher, some, dump.views, views, len(some), space)
        first_views = pilot.first_views(np.arange(len(pilot.values)), anchor_views)
        return SomeLabels(pilot.values, space, "measured on the present teacher's", first_views)

    return findings.attempt(ask)


def _as_many_as_there_is_time_for(
    teacher: Teacher, dump: DumpLabels, data: Path, look: Look, num_views: int
) -> SplitInMemory:
    """Returns as many images as the teacher can label so many views of."""
    begin = time.monotonic()
    label_rows(teacher, look.some, dump.views, 0, range(len(look.some)))
    per_image = num_views * (time.monotonic() - begin) / len(look.some)
    return spread(ImageDataset(data), max(len(look.some), min(MEASURED, int(_LABELLING_SECONDS / per_image))))
