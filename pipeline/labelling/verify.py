"""The checks of a finished store: whole and undamaged, for this data, and what the teacher predicts
today.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.core.errors import PipelineError, StoreError
from pipeline.core.seeding import derive_seed
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import Split
from pipeline.labelling.at_once import samples_at_once
from pipeline.labelling.closeness import closeness_rows
from pipeline.labelling.first_views import FirstViews
from pipeline.labelling.settings import VerifyLabels
from pipeline.labelling.teacher import Teacher, label_rows, random_rows
from pipeline.labels.canaries import check_canaries
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.fields import gather
from pipeline.labels.join import match_rows
from pipeline.labels.reader import StoreReader
from pipeline.models.predict import predict_each
from pipeline.models.saved import model_fingerprint, read_meta
from pipeline.signals import signal_named
from pipeline.signals.thinning import kept_labels, kept_outputs

_MOST_STEPS = 1  # of an anchor: half a step is rounding, the rest another machine's last bits
# Errors that code meets where the declared shape or type of an array is damaged.
_DAMAGE = (ArithmeticError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class TeacherNow:
    """The facts about the teacher as it is now, which a store's own are compared with."""

    fingerprint: str
    val_accuracy: float


@dataclass(frozen=True)
class Witness:
    """The teacher at work, and the facts about it now."""

    teacher: Teacher
    now: TeacherNow

    @classmethod
    def read(cls, folder: Path, val: SplitOnDisk, device: torch.device, batch_size: int) -> "Witness":
        """Reads the teacher of a folder and has it predict the validation split."""
        teacher = Teacher.read(folder, device, batch_size)
        signal = signal_named(read_meta(folder, made_by="train_teacher").signal)
        pieces = predict_each(teacher.model, val.in_order(teacher.batch_size), device)
        logits = torch.cat([kept_outputs(some, len(val)).cpu() for some in pieces])
        labels = kept_labels(val.hard_labels, logits.shape[1])
        return cls(teacher, TeacherNow(model_fingerprint(folder), signal.metrics(logits, labels)["accuracy"]))


@dataclass
class CheckedStore:
    """The result of the checks of one store: a line for each fault, and the figures of those checks
    that were reached.

    Attributes:
        num_anchors: Anchors that were made again.
        recomputed: Fidelity against the teacher as it is now, as `Fidelity.summary`.
    """

    faults: list[str] = field(default_factory=list)
    num_blocks: int | None = None
    num_canaries: int | None = None
    num_anchors: int | None = None
    recomputed: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as plain JSON, without the figures of checks that were not reached."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def verify_store(path: Path | str, witness: Witness | None, train: Split, settings: VerifyLabels) -> CheckedStore:
    """Checks one store, with the teacher or, where `witness` is None, without; returns every fault
    that it found.
    """
    result = CheckedStore()
    try:
        # 1. Every block can be read, and everything beside the blocks is as it was written.
        store = StoreReader(path)
        damaged = [error for _, error in store.check() if error is not None]
        result.faults.extend(str(error) for error in damaged)
        result.num_blocks = len(store.manifest.blocks())
        store.check_whole()
        # 2. The views are rendered as they were for the teacher, and every sample has its labels.
        result.num_canaries = check_canaries(store.canaries, train, store.views, path, store.row_order(train))
        if result.num_canaries == 0:
            raise StoreError(path, "none of its canaries is in the training split", expected="a store for this data")
        match_rows(train, store)
        # 3. The labels are what the teacher predicts; a mean of several teachers is no one's.
        if witness is None or "fingerprint" not in (store.manifest.teacher or {}):
            return result
        _compare_teacher(store, witness.now, settings, result)
        if not damaged:
            _compare_anchors(store, witness.teacher, train, settings, result)
            _compare_labels(store, witness.teacher, train, settings, result)
    except PipelineError as error:
        result.faults.append(str(error))
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        result.faults.append(f"{path}: damaged: its parts do not fit each other ({type(error).__name__}: {reason})")
    return result


def _compare_teacher(store: StoreReader, now: TeacherNow, settings: VerifyLabels, result: CheckedStore) -> None:
    """Adds a fault where another teacher wrote the store, or its accuracy has changed since."""
    stored = store.manifest.teacher or {}
    if stored["fingerprint"] != now.fingerprint:
        result.faults.append(f"{store.location}: written by teacher {stored['fingerprint']}, now {now.fingerprint}")
    drift = abs(stored.get("val_accuracy", now.val_accuracy) - now.val_accuracy)
    if drift > settings.accuracy_tolerance:
        result.faults.append(
            f"{store.location}: teacher's validation accuracy {stored['val_accuracy']:.4f} when written, "
            f"now {now.val_accuracy:.4f}"
        )


def _compare_anchors(
    store: StoreReader, teacher: Teacher, train: Split, settings: VerifyLabels, result: CheckedStore
) -> None:
    """Adds a fault where anchors are not those of the teacher's first views, to within a step.

    Labels stand on anchors, so that those on a wrong one are as close to the teacher as the store
    states: only the teacher can tell.
    """
    count = store.encoding.anchor_views
    if count == 0:
        return
    rows, steps = anchors_off(teacher, train, store, settings.num_labels, settings.seed)
    result.num_anchors = len(rows)
    wrong = np.flatnonzero(steps > _MOST_STEPS)
    if len(wrong):
        worst = int(steps.argmax())
        result.faults.append(
            f"{store.location}: {len(wrong):,} of {len(rows):,} anchors are not the teacher's: the one in row {rows[worst]} "
            f"is {steps[worst]:.1f} steps from the mean of its first {count} views, expected at most {_MOST_STEPS}"
        )


def _compare_labels(
    store: StoreReader,
    teacher: Teacher,
    train: Split,
    settings: VerifyLabels,
    result: CheckedStore,
) -> None:
    """Adds a fault for each temperature at which a label is further from the teacher than when it
    was written.
    """
    stored = store.manifest.fidelity or {}
    result.recomputed = recompute_fidelity(teacher, train, store, settings.num_labels, settings.seed)
    kind, measured = closeness_rows(result.recomputed)
    for name, now in measured.items():
        limit = closeness_rows(stored)[1][name]["max"] + settings.kl_tolerance_nats
        if now["max"] > limit:
            far = f"a label is {now['max']:.2e} nats from the teacher at temperature {name}"
            if kind != "temperature":
                far = f"an embedding has a {name} of {now['max']:.2e} to the teacher's"
            result.faults.append(f"{store.location}: {far}, expected at most {limit:.2e}")


def anchors_off(
    teacher: Teacher, split: Split, store: StoreReader, num_labels: int, seed: int
) -> tuple[Int64[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Returns some rows of a store, whose samples are in the split, and by how many steps their
    anchors are off from what the teacher predicts now.

    The teacher is asked for about `num_labels` views.
    """
    manifest, count = store.manifest, store.encoding.anchor_views
    teacher = teacher.in_precision(manifest.teacher_precision)
    split_rows, order = store.rows_in(split), store.row_order(split)
    rows = np.unique(random_rows(derive_seed(seed, "anchors"), 0, -(-num_labels // count), manifest.num_samples))
    rows = rows[split_rows[rows] >= 0]

    def predict(view: int, some: np.ndarray) -> torch.Tensor:
        return label_rows(teacher, split, store.views, view, split_rows[some], row_order=order)

    if len(rows) == 0:
        return rows, np.zeros(0, np.float32)
    mean = FirstViews.ask(rows, [count], predict, manifest.temperature).means[count]
    anchors = gather(store.read_anchors(range(manifest.num_samples)), rows)
    return rows, store.codec.anchors_off(anchors, mean).numpy()


def recompute_fidelity(
    teacher: Teacher, split: Split, store: StoreReader, num_labels: int, seed: int
) -> dict[str, Any]:
    """Returns how close stored labels are to what the teacher predicts now, as `Fidelity.summary`.

    Measured on about `num_labels` labels, drawn at random from those whose sample is in the split.
    """
    manifest = store.manifest
    teacher = teacher.giving(manifest.signal).in_precision(manifest.teacher_precision)
    split_rows, order = store.rows_in(split), store.row_order(split)
    parts, signal = [], manifest.space.signal
    per_view = -(-num_labels // manifest.num_views)
    for index, view in enumerate(manifest.view_numbers):
        rows = np.unique(random_rows(seed, view, per_view, manifest.num_samples))
        rows = rows[split_rows[rows] >= 0]
        if len(rows) == 0:
            continue
        labels = gather(store.read_view(index), rows)
        for some in np.split(rows, range(0, len(rows), samples_at_once(manifest.space, len(rows)))[1:]):
            outputs = label_rows(teacher, split, store.views, view, split_rows[some], row_order=order)
            own = gather(labels, np.searchsorted(rows, some))
            logits = store.codec.kept(outputs[:, teacher.columns(manifest.signal)].double(), own)
            exact = {t: signal.values(logits, t) for t in store.codec_temperatures}
            parts.append(Fidelity.of(exact, {t: store.decode(own, t) for t in store.codec_temperatures}, signal))
    return Fidelity.merge(parts).summary()
