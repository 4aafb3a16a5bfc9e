"""The weighted mean of several teachers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch

from pipeline.core.errors import ConfigError, StoreError, listed
from pipeline.labelling.at_once import samples_at_once
from pipeline.labelling.derive.assemble import unfinished
from pipeline.labelling.derive.base import Derivation, Destination
from pipeline.labelling.derive.checks import need_alike
from pipeline.labelling.first_views import MeanPrediction
from pipeline.labelling.takeover import EarlierStore
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.encodings import AtPositions, Encoding
from pipeline.labels.fields import Labels
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader

_PARTS = 8  # of what may be in memory at once: here all sources are, in float64


@final
@dataclass(frozen=True)
class Average(Derivation):
    """The weighted mean of several teachers' probabilities at the stored temperature, encoded
    again.

    Fidelity is measured against the mean of the labels as they are stored.

    Attributes:
        weights: One for each store; only their ratios count.
        num_pilot: The number of labels that the encoding learns its tables from.
    """

    kind: ClassVar[str] = "average"

    stores: Sequence[StoreReader]
    weights: Sequence[float]
    encoding: Encoding
    num_pilot: int

    @property
    def sources(self) -> Sequence[StoreReader]:
        """The teachers' stores."""
        return self.stores

    @property
    def settings(self) -> dict[str, Any]:
        """The weights, the encoding and the number of labels that it learns from."""
        return {
            "weights": list(self.weights),
            "encoding": self.encoding.to_dict(),
            "pilot_labels": self.num_pilot,
        }

    @property
    def num_labels(self) -> int:
        """The number of labels of the first store, which all must have."""
        return self.stores[0].manifest.num_labels

    def make(self, to: Destination) -> Manifest:
        """Writes the mean of the stores' labels.

        Raises:
            ConfigError: Where a weight is missing or not a positive number.
            StoreError: Where the stores differ in classes, stored temperature, views or samples.
        """
        # 1. The stores must hold the same labels by different teachers.
        if len(self.weights) != len(self.stores) or not all(0 < weight < math.inf for weight in self.weights):
            expected = f"{len(self.stores)} positive numbers, one for each store"
            raise ConfigError("weights", f"{list(self.weights)}", expected=expected)
        first = self.stores[0]
        for other in self.stores[1:]:
            need_alike(first, other)
        manifest = self._manifest()
        self.encoding.check(manifest.space, str(to.store))
        self._need_first_views()
        self._need_positions()
        # 2. The encoding learns its tables from the mean labels of one view, evenly spread.
        samples, mean = first.samples, self._mean()
        num_pilot = samples_at_once(manifest.space, min(self.num_pilot, len(samples)))
        chosen = np.linspace(0, len(samples) - 1, num_pilot).astype(np.int64)
        tables = self.encoding.learn(mean(manifest.view_numbers[0], chosen), manifest.space)
        # 3. Every block that is not there yet is written.
        writer = StoreWriter(to.store, to.records, manifest, samples, first.canaries, tables)
        for rows in manifest.ranges():
            if not writer.anchors.has(rows):
                writer.write_anchors(rows, self._mean_of_first_views(mean, rows))
        for block in manifest.blocks():
            if not writer.settle(block):
                numbers = np.arange(block.rows.start, block.rows.stop)
                log_probs = mean(block.view, numbers)
                writer.write(block, log_probs * manifest.temperature, mean.drawn(block.view, numbers))
            to.on_labels(len(block.rows))
        return writer.finish()

    def _need_first_views(self) -> None:
        """Raises StoreError where anchors are asked for, and the stores lack a view of which they
        are made.
        """
        store, views = self.stores[0], range(self.encoding.anchor_views)
        if lacking := sorted({*views} - {*store.manifest.view_numbers}):
            found = f"lacks {listed([f'view {view}' for view in lacking])}, of which anchors are made"
            fix = "average stores that have these, or name another --encoding"
            raise StoreError(store.location, found, expected=f"views 0 to {len(views) - 1}", fix=fix)

    def _need_positions(self) -> None:
        """Raises ConfigError where the mean is to be of other positions than the labels."""
        asked, there = (row.get("positions") for row in (self.encoding.to_dict(), self.stores[0].manifest.encoding))
        if asked != there:
            raise ConfigError("--encoding", f"positions {asked}", expected=f"those of the stores, {there}")

    def _mean_of_first_views(self, mean: "_Mean", rows: range) -> torch.Tensor:
        """Returns what anchors of some rows are made of."""
        geometric = MeanPrediction(1.0)  # of log-probabilities, which are at the stored temperature
        for view in range(self.encoding.anchor_views):
            geometric.add(mean(view, np.arange(rows.start, rows.stop)))
        return geometric.log_probs()

    def _shares(self) -> list[float]:
        return [weight / sum(self.weights) for weight in self.weights]

    def _manifest(self) -> Manifest:
        """Returns the new store's manifest, which names every teacher with its share."""
        pairs = zip(self._shares(), self.stores, strict=True)
        teachers = [{"weight": share, "teacher": store.manifest.teacher} for share, store in pairs]
        first = self.stores[0].manifest
        return unfinished(first, encoding=self.encoding.to_dict(), teacher={"mean_of": teachers})

    def _mean(self) -> "_Mean":
        samples = self.stores[0].samples
        return _Mean([EarlierStore(store, samples) for store in self.stores], self._shares())


@dataclass(frozen=True)
class _Mean:
    """The mean of the labels of several sources, in float64."""

    sources: Sequence[EarlierStore]
    shares: Sequence[float]

    def __call__(self, view: int, rows: np.ndarray) -> torch.Tensor:
        """Returns the log-probabilities of one view (its number) of some rows, [rows, classes]; of
        a grid also by positions.
        """
        wanted = len(rows) * _PARTS
        size = max(1, samples_at_once(self.sources[0].store.manifest.space, wanted) // _PARTS)
        return torch.cat([self._of(view, rows[start : start + size]) for start in range(0, len(rows), size)])

    def _of(self, view: int, rows: np.ndarray) -> torch.Tensor:
        space = self.sources[0].store.manifest.space
        parts = [
            source.store.decode(source.labels(view, source.rows[rows]), space.temperature).double()
            for source in self.sources
        ]
        return space.class_signal.mean(parts, self.shares).float()

    def drawn(self, view: int, rows: np.ndarray) -> Labels:
        """Returns the fields from which the positions of the same labels follow, where these were
        drawn. Raises StoreError where they are not the same in all sources.
        """
        encoding = self.sources[0].store.encoding
        names = [*encoding.positions.fields()] if isinstance(encoding, AtPositions) else []
        each = [source.labels(view, source.rows[rows]) for source in self.sources] if names else []
        for source, labels in zip(self.sources[1:], each[1:], strict=False):
            if not all(np.array_equal(labels[name].numpy(), each[0][name].numpy()) for name in names):
                where, first = source.store.location, self.sources[0].store.location
                raise StoreError(where, f"labels of view {view} are at other positions", expected=f"those of {first}")
        return {name: each[0][name] for name in names}
