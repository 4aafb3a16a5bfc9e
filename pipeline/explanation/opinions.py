"""The teacher's opinions on samples, as a store holds them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from pipeline.data.hard_labels import is_labelled
from pipeline.data.splits import Split
from pipeline.labels.reader import StoreReader
from pipeline.signals import StoredKind
from pipeline.views.spec import own_shares

TEMPERATURE = 1.0  # at which the teacher's probabilities are neither flattened nor sharpened


@dataclass(frozen=True)
class Opinion:
    """The teacher's probabilities of some labelled samples of a split, the mean over views."""

    places: Int64[np.ndarray, " some"]
    probs: Float[np.ndarray, "some classes"]


#: A function that returns the opinions on all samples, a part at a time; it is called twice.
Opinions = Callable[[], Iterable[Opinion]]


def choose_store(folder: Path, kind: StoredKind = "categorical") -> StoreReader | None:
    """Returns the store in a folder that is closest to the teacher, of those with soft labels of a
    signal that serve temperature 1.

    Closeness is the mean KL, as it was measured when the store was written. None where there is no
    such store."""
    every = [StoreReader(path) for path in sorted(folder.glob("*.zarr"))]
    stores = [store for store in every if store.manifest.signal == kind]
    able = [s for s in stores if s.encoding.fields(s.manifest.space) and s.codec.serves(TEMPERATURE)]
    able = [s for s in able if not s.manifest.is_of_embeddings]
    return min(able, key=_mean_kl, default=None)


def _mean_kl(store: StoreReader) -> float:
    measured = (store.manifest.fidelity or {}).get("kl_nats", {})
    nearest = min(measured, key=lambda temperature: abs(float(temperature) - TEMPERATURE), default=None)
    return float("inf") if nearest is None else float(measured[nearest]["mean"])


def stored_opinions(store: StoreReader, split: Split, *, views: range | None = None) -> Opinions:
    """Returns the stored probabilities of a split's labelled samples, the mean over views.

    The store is read block by block, so that no more is held than a block of probabilities. A view
    that is mixed of two images reports on neither, and is left out. A sample with no other view, or
    that is not in the store, is not checked.

    Args:
        views: Places of the views to take; None for all.
    """
    rows = store.find(split.sample_ids)
    rows[~is_labelled(split.hard_labels.numpy())] = -1
    order = np.argsort(rows, kind="stable")
    in_order = rows[order]
    chosen = range(store.manifest.num_views) if views is None else views
    shows_one = _one_image(store, split)

    def opinions() -> Iterator[Opinion]:
        for start in range(0, store.manifest.num_samples, store.manifest.block_samples):
            block = range(start, min(start + store.manifest.block_samples, store.manifest.num_samples))
            first, last = np.searchsorted(in_order, [block.start, block.stop])
            probs, is_known = _mean_probs(store, block, chosen, shows_one)
            places = order[first:last]
            inside = in_order[first:last] - start
            known = is_known[inside]
            yield Opinion(places[known], probs[inside[known]])

    return opinions


def _mean_probs(
    store: StoreReader, block: range, views: range, shows_one: "_ShowsOne"
) -> tuple[Float[np.ndarray, "rows classes"], Bool[np.ndarray, " rows"]]:
    """Returns the mean over the views that show one image, and the rows that have any."""
    total, count = np.zeros((len(block), store.manifest.num_classes)), np.zeros(len(block))
    for index in views:
        whole = shows_one(block, store.manifest.view_numbers[index])
        if whole.any():
            total[whole] += _probs(store, index, block)[whole]
            count += whole
    return total / np.maximum(count, 1)[:, None], count > 0


_ShowsOne = Callable[[range, int], Bool[np.ndarray, " rows"]]


def _one_image(store: StoreReader, split: Split) -> _ShowsOne:
    """Returns a function of rows and a view's number: whether each view shows one image, and not
    two. It is right for samples of the split.
    """
    ids = store.ids_in(split) if store.views.mixes else None

    def shows_one(rows: range, view: int) -> Bool[np.ndarray, " rows"]:
        if ids is None:
            return np.ones(len(rows), dtype=bool)
        draws = store.views.draw(ids[rows.start : rows.stop], view)
        whole: np.ndarray = own_shares(draws, split.input_shape, store.views).numpy() == 1
        return whole

    return shows_one


def read_probs(store: StoreReader, rows: Int64[np.ndarray, " some"], view_index: int) -> torch.Tensor:
    """Returns the teacher's probabilities of one view of some rows of a store, which is read by
    whole blocks.
    """
    size = store.manifest.block_samples
    probs = torch.empty(len(rows), store.manifest.num_classes)
    for start in np.unique(rows // size) * size:
        block = range(int(start), min(int(start) + size, store.manifest.num_samples))
        asked = np.flatnonzero((rows >= block.start) & (rows < block.stop))
        probs[asked] = torch.from_numpy(_probs(store, view_index, block)[rows[asked] - start]).float()
    return probs


def _probs(store: StoreReader, view_index: int, block: range) -> Float[np.ndarray, "rows classes"]:
    decoded = store.decode(store.read_view(view_index, block), TEMPERATURE).double()
    probs: np.ndarray = store.manifest.space.class_signal.probs(decoded).numpy()
    return probs
