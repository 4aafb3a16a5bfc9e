"""Views and bytes for a store of a total size: the pairs that fit, and small stores to try them
with.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float

from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.progress import progress
from pipeline.data.input_kinds import IMAGE
from pipeline.data.splits import Split
from pipeline.labelling.choosing import choose
from pipeline.labelling.first_views import MeanPrediction
from pipeline.labelling.ladder import Rung
from pipeline.labelling.tune_source import LabelSource
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import Budget
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.views.plan import RowOrder

_ID_BYTES = 8  # of a sample, whatever the number of its views
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_NUM_CANARIES = 8


def parse_size(text: str, where: str) -> float:
    """Returns the bytes of a size such as `300MB` or `1.5GiB`; raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b", text.strip().lower())
    size = float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]] if match else 0.0
    if not 0 < size < float("inf"):
        raise ConfigError(where, repr(text), expected="a size such as 300MB, 2GB or 1.5GiB")
    return size


@dataclass(frozen=True)
class Pair:
    """A number of views, and the encoding that is closest to the teacher in what they leave.

    Attributes:
        rung: Measured; its `num_labels` are those of the whole store.
    """

    num_views: int
    name: str
    rung: Rung

    @property
    def total_bytes(self) -> float:
        """The bytes of the store's labels and ids; canaries come on top."""
        return self.rung.num_labels * (self.rung.label_bytes + _ID_BYTES / self.num_views)


def pairs_within(total_bytes: float, rungs: dict[str, Rung], num_samples: int, most_views: int) -> list[Pair]:
    """Returns the pairs of 1, 2, 4, ... views that fit a total size.

    Raises StoreError where not even one view does, with the nearest encoding.
    """
    pairs: list[Pair] = []
    for num_views in [1 << power for power in range(most_views.bit_length())]:
        of_store = {
            name: replace(rung, num_labels=num_views * num_samples, num_views=num_views)
            for name, rung in rungs.items()
            if rung.encoding.anchor_views <= num_views
        }
        left = (total_bytes / num_samples - _ID_BYTES) / num_views
        if left <= 0:
            found = f"{total_bytes:,.0f} bytes for {num_samples:,} samples"
            raise StoreError("--total", found, expected=f"more than the {_ID_BYTES} bytes of a sample's id")
        try:
            name = choose(of_store, Budget(bytes=left), "--total")
        except StoreError:
            if not pairs:
                raise
            break
        pairs.append(Pair(num_views, name, of_store[name]))
    return pairs


@dataclass(frozen=True)
class TrialPart:
    """A part of the training data, with the labels that a student tries on it.

    Attributes:
        pilot: Log-probabilities that encodings learn from.
    """

    source: LabelSource
    split: Split
    class_names: list[str]
    pilot: Float[torch.Tensor, "others classes"]

    def write(self, folder: Path, pairs: Sequence[Pair]) -> dict[int, StoreReader]:
        """Returns a store of this part for each pair, by its number of views; each view is labelled
        once.
        """
        writers = {pair.num_views: self._begin(folder, pair) for pair in pairs}
        views, firsts = self._views(max(writers)), self._write_anchors(list(writers.values()))
        with progress("tune_labels", len(views) * len(self.split), "label") as on_labels:
            for place, view in enumerate(views):
                logits = firsts.get(view)
                logits = self.source.logits_of(self.split, view, self._order) if logits is None else logits
                for writer in [writer for count, writer in writers.items() if place < count]:
                    for block in [block for block in writer.manifest.blocks() if block.view == view]:
                        writer.write(block, logits[block.rows.start : block.rows.stop])
                on_labels(len(self.split))
        for writer in writers.values():
            writer.finish()
        return {count: StoreReader(writer.path) for count, writer in writers.items()}

    def _write_anchors(self, writers: Sequence[StoreWriter]) -> dict[int, torch.Tensor]:
        """Makes the anchors that stores want; returns the logits by view that they are made of."""
        logits, mean = {}, MeanPrediction(self.source.space.temperature)
        for view in range(max(writer.encoding.anchor_views for writer in writers)):
            logits[view] = self.source.logits_of(self.split, view, self._order)
            mean.add(logits[view])
            for writer in [writer for writer in writers if writer.encoding.anchor_views == view + 1]:
                for rows in writer.manifest.ranges():
                    writer.write_anchors(rows, mean.log_probs()[rows.start : rows.stop])
        return logits

    @property
    def _order(self) -> RowOrder:
        return RowOrder(self.split.sample_ids, min(self.source.block_samples, len(self.split)))

    def _views(self, count: int) -> Sequence[int]:
        return range(count) if self.source.view_numbers is None else self.source.view_numbers[:count]

    def _begin(self, folder: Path, pair: Pair) -> StoreWriter:
        source, encoding, views = self.source, pair.rung.encoding, self._views(pair.num_views)
        content = self.split.content
        manifest = Manifest(
            encoding=encoding.to_dict(),
            class_names=self.class_names,
            view_numbers=list(views),
            num_samples=len(self.split),
            block_samples=self._order.block_samples,
            temperature=source.space.temperature,
            temperatures=list(source.space.temperatures),
            views=source.views.to_dict(),
            dataset_fingerprint="",
            teacher=None,
            input=None if content.kind == IMAGE else {"kind": content.kind.name, "detail": content.detail},
        )
        canaries = make_canaries(self.split, source.views, views, _NUM_CANARIES, self._order)
        path, records = folder / f"{pair.num_views}.zarr", folder / f"{pair.num_views}.records"
        tables = encoding.learn(self.pilot, source.space)
        return StoreWriter(path, records, manifest, self.split.sample_ids, canaries, tables)
