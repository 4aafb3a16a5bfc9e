"""The samples to look at, their stored views, and their likeliest classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, UInt64

from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.explanation.opinions import read_probs
from pipeline.explanation.shown.exhibit import Exhibit
from pipeline.labels.reader import StoreReader
from pipeline.results.explanation import Look, Ranked
from pipeline.views.plan import plan_view

TOP = 3

SUSPECT, DISAGREED, ATTRIBUTED = "suspect", "disagreed", "attributed"


@dataclass(frozen=True)
class Chosen:
    """A sample that is shown.

    Attributes:
        index: Its place in the split.
        kinds: The reasons for which it is shown; one that is `attributed` has maps.
        asked: The class whose maps are shown; None: the one that the first network predicts.
    """

    split: Literal["train", "test"]
    index: int
    kinds: list[str]
    asked: int | None = None


def choose(
    suspects: Mapping[int, int | None], disagreed: Sequence[int], num_attributed: int, num_test: int
) -> list[Chosen]:
    """Returns suspects, samples that networks disagree on, and ordinary ones.

    A third of those with maps are of each sort, the worst ones first. Where there are too few
    suspects or disagreed ones, more are ordinary; these are spread evenly over the test split.

    Args:
        suspects: The classes to ask for by the row of the training split, the most suspicious
            first.
        disagreed: Rows of the test split, the largest disagreement first.
        num_attributed: The number of samples with maps, at most.
    """
    third = num_attributed // 3
    listed = enumerate(suspects.items())
    chosen = [Chosen("train", at, [SUSPECT, ATTRIBUTED][: 1 + (n < third)], asked) for n, (at, asked) in listed]
    chosen += [Chosen("test", at, [DISAGREED, ATTRIBUTED][: 1 + (n < third)]) for n, at in enumerate(disagreed)]
    ordinary = np.setdiff1d(np.arange(num_test), np.asarray(disagreed, dtype=np.int64))
    count = min(num_attributed - sum(ATTRIBUTED in one.kinds for one in chosen), len(ordinary))
    spread = ordinary[np.arange(count) * len(ordinary) // max(count, 1)]
    return [*chosen, *(Chosen("test", int(index), [ATTRIBUTED]) for index in spread)]


def rank_classes(probs: Float[torch.Tensor, "samples classes"]) -> list[Ranked]:
    """Returns each sample's likeliest classes with their probabilities, to four digits; of equal
    ones the first. They are three, or all from one half on.
    """
    classes: Int64[torch.Tensor, "samples classes"] = probs.argsort(dim=1, descending=True, stable=True)
    found, counts = probs.gather(1, classes), (probs >= 0.5).sum(dim=1).clamp(min=TOP).tolist()
    return [
        [[number, round(prob, 4)] for number, prob in zip(*row, strict=True)][:count]
        for row, count in zip(zip(classes.tolist(), found.tolist(), strict=True), counts, strict=True)
    ]


@dataclass(frozen=True)
class Samples:
    """The chosen samples as they are in the data; those of the training split come first."""

    chosen: list[Chosen]
    inputs: Integer[torch.Tensor, "chosen ..."]
    hard_labels: Integer[torch.Tensor, "chosen ..."]
    sample_ids: UInt64[np.ndarray, " chosen"]

    @classmethod
    def read(cls, chosen: list[Chosen], train: SplitOnDisk, test: SplitOnDisk) -> "Samples":
        """Reads the chosen samples of both splits."""
        places = {name: [one.index for one in chosen if one.split == name] for name in ("train", "test")}
        parts = [
            split.take(np.array(places[name], dtype=np.int64)) for name, split in (("train", train), ("test", test))
        ]
        return cls(
            chosen,
            torch.cat([part.inputs for part in parts]),
            torch.cat([part.hard_labels for part in parts]),
            np.concatenate([part.sample_ids for part in parts]),
        )

    @property
    def attributed(self) -> Int64[np.ndarray, " attributed"]:
        """The numbers of those that have maps."""
        return np.flatnonzero([ATTRIBUTED in one.kinds for one in self.chosen])

    def asked(self, predicted: Int64[torch.Tensor, " chosen"]) -> Int64[torch.Tensor, " chosen"]:
        """Returns the class whose maps are shown of each, given those that the first network
        predicts.
        """
        said = zip(self.chosen, predicted.tolist(), strict=True)
        return torch.tensor([own if one.asked is None else one.asked for one, own in said], dtype=torch.int64)

    @property
    def training_rows(self) -> Int64[np.ndarray, " training"]:
        """The places in the training split of those that are of it."""
        return np.array([one.index for one in self.chosen if one.split == "train"], dtype=np.int64)


@dataclass(frozen=True)
class StoredViews:
    """The first views of some training samples in a store, and the teacher's labels of them; one
    entry per sample.
    """

    looks: list[list[Look]]
    labels: list[list[Ranked]]

    @classmethod
    def read(
        cls, samples: Samples, exhibit: Exhibit, train: SplitOnDisk, store: StoreReader | None, num_views: int
    ) -> "StoredViews":
        """Renders views of the training samples and shows them; none without a store."""
        rows = samples.training_rows
        if store is None:
            return cls([], [])
        found = cls([[] for _ in rows], [[] for _ in rows])
        stored = store.find(train.sample_ids[rows])
        order = store.row_order(train) if len(rows) else None
        for index, view in enumerate(store.manifest.view_numbers[:num_views] if len(rows) else []):
            inputs = plan_view(train, store.views, view, rows=rows, row_order=order).render(slice(None))
            labels = rank_classes(read_probs(store, stored, index))
            for number, (one, label) in enumerate(zip(inputs, labels, strict=True)):
                found.looks[number].append(exhibit.add(one, samples.inputs[number]))
                found.labels[number].append(label)
        return found
