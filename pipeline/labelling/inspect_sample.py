"""One sample of a store: the teacher's probabilities of every view, and the views themselves."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import ConfigError, StoreError
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import Split, known_classes, unknown_classes
from pipeline.labelling.inspect import label_fields, table
from pipeline.labels.canaries import check_canaries
from pipeline.labels.reader import StoreReader
from pipeline.signals import StoredKind
from pipeline.views.plan import plan_view

_ROW = "row:"


@dataclass(frozen=True)
class InspectedSample:
    """A sample of a store.

    Attributes:
        sample_id: None where its sample is not in the data, and it was asked for by its row.
        row: Its place in the store.
        probabilities: The teacher's at `temperature`, [views, classes].
        hard_label: The class's number, or those of all independent classes that are yes; None where
            it is unlabelled or its sample is not in the data.
        unknown: The independent classes of which the hard label knows nothing; None where classes
            are not independent.
        inputs: The views that the teacher saw, one after the other; None where they are not in the
            data, as is `plain`, the sample as it is.
    """

    store: str
    sample_id: int | None
    row: int
    temperature: float
    class_names: list[str]
    view_numbers: list[int]
    probabilities: np.ndarray
    hard_label: int | list[int] | None
    inputs: torch.Tensor | None
    unknown: list[int] | None = None
    plain: torch.Tensor | None = None

    @classmethod
    def read(cls, store: StoreReader, asked: str, temperature: float, data: Path) -> "InspectedSample":
        """Returns the sample with an id of 16 hex digits, or at `row:<number>` of the store.

        Raises:
            PipelineError: Where there is no such sample, label, temperature or data.
        """
        need_labels(store)
        if not 0 < temperature < float("inf"):
            raise ConfigError("--temperature", f"{temperature:g}", expected="a number above 0")
        store.codec.require(temperature)
        row = find_row(store, asked)
        manifest = store.manifest
        labels = [store.read_view(index, range(row, row + 1)) for index in range(manifest.num_views)]
        values = torch.cat([store.decode(label, temperature) for label in labels])
        split = ImageDataset(data).stream("train")
        place = find_place(store, row, split)
        inputs, plain, sample_id = None, None, None if asked.startswith(_ROW) else int(asked, 16)
        if place >= 0:
            sample_id, inputs = int(split.sample_ids[place]), rendered(store, split, place)[0]
            plain = split.take(np.array([place])).inputs[0]
        return cls(
            store.location,
            sample_id,
            row,
            temperature,
            manifest.class_names,
            manifest.view_numbers,
            manifest.space.class_signal.probs(values).numpy(),
            known_classes(split.hard_labels[place]) if place >= 0 else None,
            inputs,
            _unknown(split, place, manifest.signal),
            plain,
        )

    def facts(self) -> dict[str, Any]:
        """Returns the sample without its inputs as plain JSON."""
        content = asdict(replace(self, inputs=None, plain=None)) | {
            "sample_id": self.name,
            "probabilities": [[float(p) for p in row] for row in self.probabilities],
            "hard_label_name": self._hard_name(),
        }
        content.pop("inputs")
        content.pop("plain")
        if self.unknown is None:
            content.pop("unknown")
        return content

    @property
    def name(self) -> str | None:
        """The sample's id as 16 hex digits."""
        return None if self.sample_id is None else f"{self.sample_id:016x}"

    @property
    def title(self) -> str:
        """The sample's id, row and hard label."""
        absent = "its hard label is not known here" if self.inputs is None else "it is unlabelled"
        name = self._hard_name()
        hard = absent if name is None else name if isinstance(name, str) else ", ".join(name) or "none of the classes"
        if self.unknown and self.hard_label is not None:
            hard += f" (not known: {', '.join(self.class_names[n] for n in self.unknown)})"
        return f"sample {self.name or 'of unknown id'} (row {self.row}), hard label: {hard}"

    def _hard_name(self) -> str | list[str] | None:
        """Returns the names of the hard label's classes."""
        label = self.hard_label
        return (
            [self.class_names[n] for n in label]
            if isinstance(label, list)
            else None
            if label is None
            else self.class_names[label]
        )

    @property
    def hard_classes(self) -> list[int]:
        """The classes that the hard label has."""
        label = self.hard_label
        return label if isinstance(label, list) else [] if label is None else [label]

    def _mark(self, number: int) -> str:
        return " *" if number in self.hard_classes else " ?" if number in (self.unknown or ()) else ""

    def text(self, top: int) -> str:
        """Returns a table of views by the classes that are most likely on average.

        Several of independent classes may be likely, so there is no rest that they leave.
        """
        is_set = self.unknown is not None
        chosen = np.argsort(-self.probabilities.mean(axis=0), kind="stable")[:top]
        names = [self.class_names[n] + self._mark(n) for n in chosen]
        body = [
            [
                str(view),
                *(f"{row[n]:.2%}" for n in chosen),
                *([] if is_set else [f"{max(0.0, 1 - row[chosen].sum()):.2%}"]),
            ]
            for view, row in zip(self.view_numbers, self.probabilities, strict=True)
        ]
        header = ["view", *names, *([] if is_set else ["all others"])]
        marks = {" *": "* = its hard label", " ?": "? = not known"}
        shown = {self._mark(n) for n in chosen}
        note = "".join(f"\n\n{line}" for mark, line in marks.items() if mark in shown)
        return f"{self.title}; temperature {self.temperature:g}\n\n{table(body, header)}{note}"


def _unknown(split: Split, place: int, kind: StoredKind) -> list[int] | None:
    """Returns the independent classes of which nothing is known, none where the sample is not in
    the split.
    """
    if kind != "binary":
        return None
    return unknown_classes(split.hard_labels[place]) if place >= 0 else []


def need_labels(store: StoreReader) -> None:
    """Raises StoreError where a store holds views alone."""
    if not label_fields(store):
        raise StoreError(store.location, "holds no soft labels", expected="a store of any other encoding")


def find_place(store: StoreReader, row: int, split: Split) -> int:
    """Returns where the sample of a row stands in a split, -1 where it is not in it."""
    return int(store.rows_in(split, slice(row, row + 1))[0])


def rendered(store: StoreReader, split: Split, place: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the views of a sample as the teacher saw them, and its hard label in each.

    Raises StoreError where they are not what the teacher saw.
    """
    order, one = store.row_order(split), np.array([place])
    check_canaries(store.canaries, split, store.views, store.location, order)
    numbers = store.manifest.view_numbers
    plans = [plan_view(split, store.views, view, rows=one, row_order=order) for view in numbers]
    everything = slice(None)
    return torch.cat([plan.render(everything) for plan in plans]), torch.cat(
        [plan.labels(everything) for plan in plans]
    )


def find_row(store: StoreReader, asked: str) -> int:
    """Returns the row of a sample that is named by its id or by `row:<number>`."""
    count = store.manifest.num_samples
    if match := re.fullmatch(rf"{_ROW}(\d+)", asked):
        if int(match[1]) >= count:
            raise StoreError(store.location, f"has no row {match[1]}", expected=f"row:0 to row:{count - 1}")
        return int(match[1])
    if not re.fullmatch(r"[0-9a-fA-F]{16}", asked):
        raise ConfigError("--sample", repr(asked), expected="an id of 16 hex digits, or row:<number>")
    row = int(store.find(np.array([int(asked, 16)], dtype=np.uint64))[0])
    if row < 0:
        raise StoreError(store.location, f"has no sample {asked}", expected=f"one of its {count:,}, or row:<number>")
    return row
