"""One sample of a store of embeddings: their sizes, first dimensions, and the nearest samples."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.labelling.inspect import table
from pipeline.labelling.inspect_sample import find_row
from pipeline.labels.reader import StoreReader

_SHOWN = 6  # dimensions


@dataclass(frozen=True)
class InspectedVectors:
    """The embeddings of a sample.

    Attributes:
        row: Its place in the store.
        vectors: Of each view, as a student sees them.
        nearest: The rows of the samples nearest to it in its first view, and their cosines.
    """

    store: str
    row: int
    view_numbers: list[int]
    vectors: list[list[float]]
    nearest: list[tuple[int, float]]

    @classmethod
    def read(cls, store: StoreReader, asked: str, top: int) -> "InspectedVectors":
        """Returns the sample with an id of 16 hex digits, or at `row:<number>` of the store.

        Args:
            top: The number of nearest samples.
        """
        row, manifest = find_row(store, asked), store.manifest
        parts = [store.read_view(index, range(row, row + 1)) for index in range(manifest.num_views)]
        vectors = torch.cat([store.decode(part, 1.0) for part in parts])
        return cls(store.location, row, manifest.view_numbers, vectors.tolist(), _nearest(store, row, vectors[:1], top))

    def facts(self) -> dict[str, Any]:
        """Returns the sample as plain JSON."""
        return asdict(self)

    def text(self) -> str:
        """Returns a table of views, and the nearest samples."""
        body = [
            [str(view), f"{torch.tensor(vector).norm():.4g}", *(f"{value:.4g}" for value in vector[:_SHOWN])]
            for view, vector in zip(self.view_numbers, self.vectors, strict=True)
        ]
        header = ["view", "length", *(f"[{number}]" for number in range(len(self.vectors[0][:_SHOWN])))]
        near = ", ".join(f"row {row} ({cosine:.4f})" for row, cosine in self.nearest) or "none"
        title = f"row {self.row}, embeddings of {len(self.vectors[0]):,} values"
        return f"{title}\n\n{table(body, header)}\n\nnearest in view {self.view_numbers[0]}, by cosine: {near}"


def _nearest(store: StoreReader, row: int, vector: torch.Tensor, top: int) -> list[tuple[int, float]]:
    """Returns the rows nearest to a vector, itself left out, block by block of the first view."""
    cosines = torch.cat(
        [F.cosine_similarity(store.decode(store.read_view(0, rows), 1.0), vector) for rows in store.manifest.ranges()]
    )
    cosines[row] = -2
    found = cosines.topk(min(top, len(cosines) - 1))
    return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))
