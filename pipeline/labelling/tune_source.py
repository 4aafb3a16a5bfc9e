"""Labels to try encodings on: the teacher's own, or those of a dense store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic.dataclasses import dataclass as settings_dataclass

from pipeline.core.bounds import BatchSize, Samples, Temperature, Views
from pipeline.core.config import STRICT, load_section
from pipeline.core.errors import DataError, StoreError, listed
from pipeline.core.progress import progress
from pipeline.core.seeding import derive_seed, permutation
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import Split
from pipeline.labelling.first_views import FirstViews, counts_to_try
from pipeline.labelling.ladder import TrialLabels
from pipeline.labelling.teacher import Teacher, label_rows
from pipeline.labels.encodings import FIGURES, Figure, LabelSpace
from pipeline.labels.fields import gather
from pipeline.labels.join import match_rows
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import DeviceName, choose_device
from pipeline.models.precision import Precision
from pipeline.models.saved import model_fingerprint, read_meta
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec


@settings_dataclass(frozen=True, kw_only=True, config=STRICT | {"extra": "ignore"})
class LabelSettings:
    """The part of the section `dump_labels` that decides a label's size."""

    num_views: Views
    temperature: Temperature
    temperatures: list[Temperature]
    pilot_labels: Samples
    batch_size: BatchSize
    block_samples: Samples
    device: DeviceName
    precision: Precision
    views: ViewSpec


LogProbs = Callable[[int, Int64[np.ndarray, " rows"]], Float[torch.Tensor, "rows classes"]]
LogitsOf = Callable[[Split, int, RowOrder], Float[torch.Tensor, "samples classes"]]


@dataclass(frozen=True)
class LabelSource:
    """The place that labels come from.

    Attributes:
        about: Its name, for people.
        views: The views that were or would be labelled; `num_views` of them are drawn from.
        log_probs: Called with the place of a view and rows in ascending order, returns their
            log-probabilities at the stored temperature.
        logits_of: Called with a split of some of the samples, the number of a view and the order of
            a store of that split, returns its logits.
        view_numbers: The views that there are labels of; None for as many as one likes, from 0 on.
        num_pilot: Labels that a dump learns tables from; None for as many as are measured.
        own_kl: Mean KL in nats of these labels to the teacher, and its p99.9.
    """

    about: str
    space: LabelSpace
    num_views: int
    num_samples: int
    block_samples: int
    views: ViewSpec
    log_probs: LogProbs
    logits_of: LogitsOf
    view_numbers: Sequence[int] | None = None
    num_pilot: int | None = None
    own_kl: Mapping[Figure, float] = field(default_factory=lambda: dict.fromkeys(FIGURES, 0.0))

    @property
    def anchor_views(self) -> list[int]:
        """The numbers of views that anchors are tried of: of the first views, there are so many."""
        return counts_to_try(range(self.num_views) if self.view_numbers is None else self.view_numbers)

    def draw(self, num_labels: int) -> TrialLabels:
        """Returns about `num_labels` views to measure, and others for a pilot, drawn at random
        without repeats.
        """
        per_view = min(-(-num_labels // self.num_views), self.num_samples // 2)
        others = min(-(-(self.num_pilot or num_labels) // self.num_views), self.num_samples - per_view)
        if per_view == 0:
            raise DataError(self.about, f"{self.num_samples} samples", expected="at least 2")
        parts: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        chosen = []
        with progress("tune_labels", (per_view + others) * self.num_views, "label") as on_labels:
            for index in range(self.num_views):
                order = permutation(derive_seed(self.views.seed, "tune"), self.num_samples, index)
                rows = np.sort(order[: per_view + others])  # as they would lie in a block
                log_probs = self.log_probs(index, rows)
                measured = np.isin(rows, order[:per_view])
                parts[0].append(log_probs[torch.from_numpy(measured)])
                parts[1].append(log_probs[torch.from_numpy(~measured)])
                chosen.append(rows[measured])
                on_labels(len(rows))
        return TrialLabels(
            torch.cat(parts[0]),
            torch.cat(parts[1]),
            self.space,
            self.num_views * self.num_samples,
            self.block_samples,
            self.num_views,
            FirstViews.ask(np.concatenate(chosen), self.anchor_views, self._predict, temperature=1.0),
        )

    def _predict(self, view: int, rows: Int64[np.ndarray, " rows"]) -> Float[torch.Tensor, "rows classes"]:
        """Returns the log-probabilities of a view, by its number, at the stored temperature."""
        return self.log_probs(view if self.view_numbers is None else list(self.view_numbers).index(view), rows)


def labels_of_teacher(params: Path, data: Path, folder: Path) -> LabelSource:
    """Returns the labels that the teacher would be asked for by the section `dump_labels`."""
    settings = load_section(LabelSettings, "dump_labels", params)
    device = choose_device(settings.device)
    dataset = ImageDataset(data)
    settings.views.check(dataset.manifest.image_shape, f"{params}: dump_labels.views", dataset.manifest.kind)
    _need_whole_labels(dataset.manifest.positions, str(data))
    class_names = read_meta(folder, made_by="train_teacher").class_names
    if class_names != dataset.manifest.class_names:
        raise DataError(folder, "was trained for other classes", expected=listed(dataset.manifest.class_names))
    split = dataset.stream("train")
    teacher = Teacher.read(folder, device, settings.batch_size, settings.precision)

    space = LabelSpace(len(class_names), settings.temperature, tuple(settings.temperatures), dataset.manifest.signal)

    def log_probs(index: int, rows: np.ndarray) -> torch.Tensor:
        return space.signal.values(label_rows(teacher, split, settings.views, index, rows), space.temperature)

    def logits_of(part: Split, view: int, order: RowOrder) -> torch.Tensor:
        return label_rows(teacher, part, settings.views, view, range(len(part)), order)

    return LabelSource(
        f"teacher {model_fingerprint(folder)} in {folder}",
        space,
        settings.num_views,
        len(split),
        settings.block_samples,
        settings.views,
        log_probs,
        logits_of,
        num_pilot=settings.pilot_labels,
    )


def _need_whole_labels(positions: tuple[int, int] | None, where: str) -> None:
    """Raises DataError where labels are of classes at positions, of which no ladder is tried."""
    if positions is not None:
        found, fix = "labels of classes at positions", "name dense_uint8 or topk with `positions` (docs/signals.md)"
        raise DataError(where, found, expected="labels of whole samples", fix=fix)


def labels_of_store(place: str) -> LabelSource:
    """Returns the labels of a dense store; raises StoreError for another one."""
    store = StoreReader(place)
    manifest = store.manifest
    _need_whole_labels(manifest.positions, store.location)
    if not manifest.encoding["kind"].startswith("dense_") or manifest.fidelity is None:
        found = f"encoding {manifest.encoding['kind']!r}"
        raise StoreError(store.location, found, expected="a dense one, which has every class of every label")

    def log_probs(index: int, rows: np.ndarray) -> torch.Tensor:
        parts = []
        for block in manifest.blocks():
            here = rows[(rows >= block.rows.start) & (rows < block.rows.stop)]
            if block.view_index == index and len(here):
                labels = gather(store.read_view(index, block.rows), here - block.rows.start)
                parts.append(store.decode(labels, manifest.temperature))
        return torch.cat(parts)

    def logits_of(part: Split, view: int, order: RowOrder) -> torch.Tensor:
        if store.views.mixes:
            found = "its views are mixed of two samples, so that a part of it can't be taken"
            raise StoreError(store.location, found, fix="take labels from the teacher")
        rows = match_rows(part, store)
        ascending = np.argsort(rows)
        found_logits = log_probs(manifest.view_numbers.index(view), rows[ascending])
        return found_logits[torch.from_numpy(np.argsort(ascending))] * manifest.temperature

    return LabelSource(
        f"store {store.location}",
        manifest.space,
        manifest.num_views,
        manifest.num_samples,
        manifest.block_samples,
        store.views,
        log_probs,
        logits_of,
        view_numbers=manifest.view_numbers,
        own_kl={figure: max(kl[figure] for kl in manifest.fidelity["kl_nats"].values()) for figure in FIGURES},
    )
