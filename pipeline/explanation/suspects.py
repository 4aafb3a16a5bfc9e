"""Training samples whose hard label is probably wrong, by the soft labels of a store alone: the teacher is not run.

How many there are is told as in confident learning. Which ones they are is told by the odds of the teacher's class against the
hard label: the margin between the two, which confident learning ranks by, prefers samples that the teacher is sure of, and it
is less sure of samples that it was trained to call otherwise (`benchmarks/mislabelled.py` has figures).

The teacher has mostly been trained on these very labels. One that knows them by heart repeats the wrong ones: then fewer are
counted, and the list is short rather than wrong.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from pipeline.data.sample_ids import find_samples
from pipeline.data.splits import UNLABELLED, Split
from pipeline.labels.reader import StoreReader
from pipeline.views.spec import own_shares

TEMPERATURE = 1.0  # what the teacher says, neither flattened nor sharpened


@dataclass(frozen=True)
class Opinion:
    """What the teacher says of some labelled samples of a split: its probabilities, the mean over views."""

    places: Int64[np.ndarray, " some"]
    probs: Float[np.ndarray, "some classes"]


#: Gives the opinions on all samples, a part at a time; it is asked twice.
Opinions = Callable[[], Iterable[Opinion]]


@dataclass(frozen=True)
class Suspicions:
    """What the teacher makes of the hard label of every sample that was checked.

    Attributes:
        teacher_says: Its likeliest class but the hard label, with `teacher_probs`; `hard_probs` is that of the hard label.
    """

    places: Int64[np.ndarray, " checked"]
    hard_labels: Int64[np.ndarray, " checked"]
    teacher_says: Int64[np.ndarray, " checked"]
    hard_probs: Float[np.ndarray, " checked"]
    teacher_probs: Float[np.ndarray, " checked"]

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def none(cls) -> "Suspicions":
        classes, probs = np.empty(0, dtype=np.int64), np.empty(0)
        return cls(classes, classes, classes, probs, probs)

    @property
    def suspicion(self) -> Float[np.ndarray, " checked"]:
        """0 to 1: how probable the teacher's class is, if it is this one or the hard label; above 0.5 where it is likelier."""
        odds: np.ndarray = self.teacher_probs / (self.teacher_probs + self.hard_probs)
        return odds

    def worst(self, count: int) -> "Suspicions":
        """The most suspicious, at most `count`, worst first, of those whose hard label is not what the teacher says; of equal
        ones the first in the split comes first."""
        order = np.lexsort((self.places, -self.suspicion))
        return self.take(order[self.teacher_probs[order] > self.hard_probs[order]][:count])

    def take(self, rows: Int64[np.ndarray, " some"]) -> "Suspicions":
        return Suspicions(**{name: values[rows] for name, values in vars(self).items()})


def judge(opinions: Opinions, hard_labels: Int64[np.ndarray, " samples"], num_classes: int) -> tuple[Suspicions, int]:
    """Every sample's suspicion, and how many are probably mislabelled: those off the diagonal of the confident joint.

    The confident joint counts a sample as one of class j where j is the likeliest of the classes whose probability reaches the
    class's threshold: the mean probability of that class over the samples that have its label.

    References:
        Curtis G. Northcutt, Lu Jiang, Isaac L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
        2019, arXiv 1911.00068, section 3.1, equations 1 and 2.
    """
    thresholds = class_thresholds(opinions, hard_labels, num_classes)
    parts, num_off_diagonal = [], 0
    for part in opinions():
        labels, rows = hard_labels[part.places], np.arange(len(part.places))
        confident = np.where(part.probs >= thresholds, part.probs, -1.0)
        named = confident.argmax(axis=1)
        num_off_diagonal += int(((confident[rows, named] >= 0) & (named != labels)).sum())
        others = part.probs.copy()
        others[rows, labels] = -1.0
        says = others.argmax(axis=1)
        parts.append(Suspicions(part.places, labels, says, part.probs[rows, labels], part.probs[rows, says]))
    every = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    return Suspicions(**every), num_off_diagonal


def class_thresholds(
    opinions: Opinions, hard_labels: Int64[np.ndarray, " samples"], num_classes: int
) -> Float[np.ndarray, " classes"]:
    """The mean probability of each class over the samples that have its label; infinite for a class without any."""
    totals, counts = np.zeros(num_classes), np.zeros(num_classes)
    for part in opinions():
        labels = hard_labels[part.places]
        own = part.probs[np.arange(len(labels)), labels]
        totals += np.bincount(labels, weights=own, minlength=num_classes)
        counts += np.bincount(labels, minlength=num_classes)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.inf)


def choose_store(folder: Path) -> StoreReader | None:
    """Of the stores in a folder that hold soft labels and serve temperature 1, the one that is closest to the teacher (mean
    KL, as it was measured when it was written); None where there is none."""
    stores = [StoreReader(path) for path in sorted(folder.glob("*.zarr"))]
    able = [s for s in stores if s.encoding.fields(s.manifest.space) and s.codec.serves(TEMPERATURE)]
    return min(able, key=_mean_kl, default=None)


def _mean_kl(store: StoreReader) -> float:
    measured = (store.manifest.fidelity or {}).get("kl_nats", {})
    nearest = min(measured, key=lambda temperature: abs(float(temperature) - TEMPERATURE), default=None)
    return float("inf") if nearest is None else float(measured[nearest]["mean"])


def stored_opinions(store: StoreReader, split: Split, *, views: range | None = None) -> Opinions:
    """What a store says of a split's labelled samples, by mean over its views, or over some of them (by their place).

    Read block by block, so that no more is held than a block of probabilities. A view that is mixed of two images says
    nothing of either, and is left out; a sample of which no other is stored, or that the store does not have, is not
    checked.
    """
    rows = find_samples(split.sample_ids, store.sample_ids)
    rows[split.hard_labels.numpy() == UNLABELLED] = -1
    order = np.argsort(rows, kind="stable")
    in_order = rows[order]
    chosen = range(store.manifest.num_views) if views is None else views

    def opinions() -> Iterator[Opinion]:
        for start in range(0, store.manifest.num_samples, store.manifest.block_samples):
            block = range(start, min(start + store.manifest.block_samples, store.manifest.num_samples))
            first, last = np.searchsorted(in_order, [block.start, block.stop])
            probs, is_known = _mean_probs(store, block, chosen, split.input_shape)
            places = order[first:last]
            inside = in_order[first:last] - start
            known = is_known[inside]
            yield Opinion(places[known], probs[inside[known]])

    return opinions


def _mean_probs(
    store: StoreReader, block: range, views: range, shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "rows classes"], Bool[np.ndarray, " rows"]]:
    """The mean over views of one image, and which rows have any."""
    total, count = np.zeros((len(block), store.manifest.num_classes)), np.zeros(len(block))
    for index in views:
        whole = _shows_one_image(store, block, store.manifest.view_numbers[index], shape)
        if whole.any():
            total[whole] += _probs(store, index, block)[whole]
            count += whole
    return total / np.maximum(count, 1)[:, None], count > 0


def _shows_one_image(store: StoreReader, block: range, view: int, shape: tuple[int, ...]) -> Bool[np.ndarray, " rows"]:
    if not store.views.mixes:
        return np.ones(len(block), dtype=bool)
    draws = store.views.draw(store.sample_ids[block.start : block.stop], view)
    whole: np.ndarray = own_shares(draws, shape, store.views).numpy() == 1
    return whole


def read_probs(store: StoreReader, rows: Int64[np.ndarray, " some"], view_index: int) -> torch.Tensor:
    """What the teacher says of one view of some rows of a store; read by whole blocks."""
    size = store.manifest.block_samples
    probs = torch.empty(len(rows), store.manifest.num_classes)
    for start in np.unique(rows // size) * size:
        block = range(int(start), min(int(start) + size, store.manifest.num_samples))
        asked = np.flatnonzero((rows >= block.start) & (rows < block.stop))
        probs[asked] = torch.from_numpy(_probs(store, view_index, block)[rows[asked] - start]).float()
    return probs


def _probs(store: StoreReader, view_index: int, block: range) -> Float[np.ndarray, "rows classes"]:
    decoded: np.ndarray = store.decode(store.read_view(view_index, block), TEMPERATURE).double().exp().numpy()
    return decoded
