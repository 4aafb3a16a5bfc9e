"""A few samples to look at: which ones, their images on a sheet of tiles, and maps drawn over images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8, UInt64

from pipeline.data.decoding import fit, to_png
from pipeline.data.sample_ids import find_samples
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.data.splits import UNLABELLED
from pipeline.explanation.suspects import read_probs
from pipeline.labels.reader import StoreReader
from pipeline.views.plan import plan_view

COLUMNS = 32
LARGEST_PX = 96  # of a tile; one more pixel in either direction costs every sample
TOP = 3

SUSPECT, DISAGREED, ATTRIBUTED = "suspect", "disagreed", "attributed"

# Orange and blue are told apart by everybody.
_FOR = np.array([230, 97, 1])
_AGAINST = np.array([33, 102, 172])
_COVER = 0.85  # what a map's strongest place hides of the image
_DARKEST, _BRIGHTEST = 48, 208  # of the image under it: on black or white, colours would be lost

Ranked = list[list[float]]  # [class, probability], the likeliest first


@dataclass(frozen=True)
class Chosen:
    """A sample that is shown: where it is, and why it is shown; one that is `attributed` has maps."""

    split: Literal["train", "test"]
    index: int
    kinds: list[str]


def choose(suspects: Sequence[int], disagreed: Sequence[int], num_attributed: int, num_test: int) -> list[Chosen]:
    """Suspects, samples that networks disagree on, and ordinary ones.

    Of those with maps a third are of each sort, the worst ones first; where there are too few suspects or disagreed ones,
    more are ordinary. These are spread evenly over the test split.
    """
    third = num_attributed // 3
    chosen = [Chosen("train", at, [SUSPECT, ATTRIBUTED][: 1 + (n < third)]) for n, at in enumerate(suspects)]
    chosen += [Chosen("test", at, [DISAGREED, ATTRIBUTED][: 1 + (n < third)]) for n, at in enumerate(disagreed)]
    ordinary = np.setdiff1d(np.arange(num_test), np.asarray(disagreed, dtype=np.int64))
    count = min(num_attributed - sum(ATTRIBUTED in one.kinds for one in chosen), len(ordinary))
    spread = ordinary[np.arange(count) * len(ordinary) // max(count, 1)]
    return [*chosen, *(Chosen("test", int(index), [ATTRIBUTED]) for index in spread)]


class TileSheet:
    """Images of one size side by side, `COLUMNS` in a row; each is known by its number."""

    def __init__(self, height: int, width: int) -> None:
        scale = min(1.0, LARGEST_PX / max(height, width))
        #: Height and width of a tile: that of the images, or what is left where these are larger.
        self.tile_px = (max(1, round(height * scale)), max(1, round(width * scale)))
        self._tiles: list[UInt8[np.ndarray, "channels _ _"]] = []

    def add(self, image: UInt8[np.ndarray, "channels height width"]) -> int:
        """Its number."""
        self._tiles.append(fit(image, self.tile_px))
        return len(self._tiles) - 1

    def png(self) -> bytes:
        """The sheet as a file; what the last row lacks is black."""
        height, width = self.tile_px
        channels = len(self._tiles[0]) if self._tiles else 1
        num_rows = max(1, -(-len(self._tiles) // COLUMNS))
        sheet = np.zeros((channels, num_rows * height, COLUMNS * width), dtype=np.uint8)
        for number, tile in enumerate(self._tiles):
            top, left = number // COLUMNS * height, number % COLUMNS * width
            sheet[:, top : top + height, left : left + width] = tile
        return to_png(sheet)


def draw_map(
    image: UInt8[np.ndarray, "channels height width"], attribution: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "3 height width"]:
    """The image in grey; over it, the stronger the more it counts, orange where it speaks for the class, blue where against."""
    strongest = np.abs(attribution).max()
    share = _COVER * np.abs(attribution) / strongest if strongest else np.zeros(attribution.shape)
    grey = _DARKEST + (_BRIGHTEST - _DARKEST) * image.mean(axis=0) / 255
    colours = np.where(attribution > 0, _FOR[:, None, None], _AGAINST[:, None, None])
    drawn: np.ndarray = np.rint((1 - share) * grey + share * colours).astype(np.uint8)
    return drawn


def rank_classes(probs: Float[torch.Tensor, "samples classes"]) -> list[Ranked]:
    """Of each sample the likeliest classes with their probabilities, to four digits; of equal ones the first."""
    classes: Int64[torch.Tensor, "samples top"] = probs.argsort(dim=1, descending=True, stable=True)[:, :TOP]
    found = probs.gather(1, classes)
    return [
        [[number, round(prob, 4)] for number, prob in zip(*row, strict=True)]
        for row in zip(classes.tolist(), found.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Samples:
    """The chosen samples as the data has them; those of the training split come first."""

    chosen: list[Chosen]
    images: UInt8[torch.Tensor, "chosen channels height width"]
    hard_labels: Int64[torch.Tensor, " chosen"]
    sample_ids: UInt64[np.ndarray, " chosen"]

    @classmethod
    def read(cls, chosen: list[Chosen], train: SplitOnDisk, test: SplitOnDisk) -> "Samples":
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
        """Which of them have maps."""
        return np.flatnonzero([ATTRIBUTED in one.kinds for one in self.chosen])

    def describe(self, tiles: TileSheet) -> list[dict[str, Any]]:
        """A row of each, and its image on the sheet."""
        labels = self.hard_labels.tolist()
        return [
            {
                "id": f"{int(sample_id):016x}",
                "split": one.split,
                "index": one.index,
                "hard_label": None if label == UNLABELLED else label,
                "kinds": one.kinds,
                "image": tiles.add(image),
            }
            for one, sample_id, label, image in zip(
                self.chosen, self.sample_ids, labels, self.images.numpy(), strict=True
            )
        ]

    def add_views(
        self, rows: list[dict[str, Any]], tiles: TileSheet, train: SplitOnDisk, store: StoreReader, num_views: int
    ) -> None:
        """Adds to the rows of training samples the first views of a store, and what the teacher said of each."""
        places = np.array([one.index for one in self.chosen if one.split == "train"], dtype=np.int64)
        stored = find_samples(train.sample_ids[places], store.sample_ids)
        for row in rows[: len(places)]:
            row |= {"views": [], "view_labels": []}
        for index, view in enumerate(store.manifest.view_numbers[:num_views] if len(places) else []):
            images = plan_view(train, store.views, view, rows=places, row_order=store.row_order).render(slice(None))
            labels = rank_classes(read_probs(store, stored, index))
            for row, image, label in zip(rows, images.numpy(), labels, strict=False):
                row["views"].append(tiles.add(image))
                row["view_labels"].append(label)
