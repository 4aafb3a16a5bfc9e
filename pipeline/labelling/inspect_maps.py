"""One sample of a store of a grid: the classes of its map and of the teacher's, view by view."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.data.dataset import ImageDataset
from pipeline.data.hard_labels import UNLABELLED
from pipeline.labelling.inspect import held_positions, table
from pipeline.labelling.inspect_sample import find_place, find_row, need_labels, rendered
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.reader import StoreReader

ClassMap = Int64[np.ndarray, "height width"]


@dataclass(frozen=True)
class InspectedMaps:
    """A sample of a store whose labels are at positions.

    Attributes:
        row: Its place in the store.
        name: The sample's id as 16 hex digits; None where its image is not in the data.
        teacher: The most likely class at each pixel, of each view; of cells the same in all of one;
            -1 where no label is.
        hard: The hard label in each view, -1 where nothing is known; None where it is not known
            here.
        inputs: The views that the teacher saw; None where they are not in the data.
    """

    store: str
    row: int
    name: str | None
    held: str
    class_names: list[str]
    view_numbers: list[int]
    teacher: Int64[np.ndarray, "views height width"]
    hard: Int64[np.ndarray, "views height width"] | None
    inputs: torch.Tensor | None

    @classmethod
    def read(cls, store: StoreReader, asked: str, data: Path) -> "InspectedMaps":
        """Returns the sample with an id of 16 hex digits, or at `row:<number>` of the store.

        Raises:
            PipelineError: Where there is no such sample, label or data.
        """
        need_labels(store)
        row, split, manifest = find_row(store, asked), ImageDataset(data).stream("train"), store.manifest
        place = find_place(store, row, split)
        shown = rendered(store, split, place) if place >= 0 else None
        teacher = [
            _likeliest(store, store.read_view(index, range(row, row + 1))) for index in range(manifest.num_views)
        ]
        return cls(
            store.location,
            row,
            f"{int(split.sample_ids[place]):016x}" if place >= 0 else None,
            held_positions(manifest.encoding["positions"]),
            manifest.class_names,
            manifest.view_numbers,
            np.stack(teacher),
            None if shown is None else shown[1].numpy().astype(np.int64),
            None if shown is None else shown[0],
        )

    def facts(self) -> dict[str, Any]:
        """Returns the shares of classes in each view, without maps and images, as plain JSON."""
        return {
            "store": self.store,
            "row": self.row,
            "sample_id": self.name,
            "positions": self.held,
            "class_names": self.class_names,
            "view_numbers": self.view_numbers,
            "teacher_shares": [self._shares(each) for each in self.teacher],
            "hard_shares": None if self.hard is None else [self._shares(each) for each in self.hard],
            "unknown_shares": None if self.hard is None else [float((each < 0).mean()) for each in self.hard],
            "same_class": None if self.hard is None else [self._same(view) for view in range(len(self.teacher))],
        }

    @property
    def title(self) -> str:
        """The sample's id, row and positions."""
        height, width = self.teacher.shape[1:]
        return f"sample {self.name or 'of unknown id'} (row {self.row}), {height} x {width} pixels: {self.held}"

    def text(self, top: int) -> str:
        """Returns a table of the classes that take most of the maps: how much of each view."""
        teacher = np.array([self._shares(each) for each in self.teacher])
        hard = None if self.hard is None else np.array([self._shares(each) for each in self.hard])
        chosen = np.argsort(-(teacher if hard is None else teacher + hard).mean(axis=0), kind="stable")[:top]
        body = []
        for view, number in enumerate(self.view_numbers):
            own, same = [f"{share:.1%}" for share in teacher[view][chosen]], self._same(view)
            body.append([str(number), "teacher", *own, "", "" if same is None else f"{same:.1%}"])
            if hard is not None and self.hard is not None:
                known = [f"{share:.1%}" for share in hard[view][chosen]]
                body.append([str(number), "hard label", *known, f"{(self.hard[view] < 0).mean():.1%}", ""])
        names = [self.class_names[number] for number in chosen]
        notes = "Share of a view's pixels; `same`: of those where both are known, the same class."
        absent = "" if self.hard is not None else " The hard label is not known here: its image is not in the data."
        shares = table(body, ["view", "map", *names, "unknown", "same"], left=2)
        return f"{self.title}\n\n{shares}\n\n{notes}{absent}"

    def _shares(self, classes: ClassMap) -> list[float]:
        """Returns the share of each class among all pixels that have one."""
        counts = np.bincount(classes[classes >= 0], minlength=len(self.class_names))
        return [float(count) for count in counts / max(1, counts.sum())]

    def _same(self, view: int) -> float | None:
        """Returns the share of pixels of the same class, where both have one; None if none has."""
        if self.hard is None:
            return None
        both = (self.hard[view] >= 0) & (self.teacher[view] >= 0)
        return float((self.hard[view] == self.teacher[view])[both].mean()) if both.any() else None


def _likeliest(store: StoreReader, label: dict[str, torch.Tensor]) -> ClassMap:
    """Returns the most likely class of one label at each pixel, -1 where there is no label."""
    assert store.manifest.positions is not None, "a store of a grid"
    height, width = store.manifest.positions
    temperature = store.manifest.temperature
    classes, targets = store.decode(label, temperature).argmax(dim=1)[0], store.codec.targets(label, temperature)
    assert isinstance(targets, PositionTargets), "labels of a grid are at positions"
    if targets.index is None:
        cells = classes.reshape(height // targets.stride, width // targets.stride)
        return np.kron(cells.numpy(), np.ones((targets.stride, targets.stride), np.int64))
    whole = torch.full((height * width,), UNLABELLED)
    whole[targets.index[0]] = classes
    return whole.reshape(height, width).numpy()
