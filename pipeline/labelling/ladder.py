"""A ladder of encodings, and what a rung takes on disk and loses of the labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pipeline.core.errors import ConfigError
from pipeline.core.progress import progress
from pipeline.labelling.first_views import FirstViews, counts_to_try
from pipeline.labelling.pilot import Pilot
from pipeline.labelling.temporary import temporary_folder
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import Canaries
from pipeline.labels.encodings import Encoding, Figure, LabelSpace
from pipeline.labels.encodings.anchored import Anchored
from pipeline.labels.encodings.dense_float16 import DenseFloat16
from pipeline.labels.encodings.dense_uint8 import DenseUint8
from pipeline.labels.encodings.log_odds_uint8 import LogOddsUint8
from pipeline.labels.encodings.sampled import Sampled
from pipeline.labels.encodings.top_odds import TopOdds
from pipeline.labels.encodings.topk import TopK
from pipeline.labels.manifest import Manifest

_RANGE_NATS = 40.0
_RANGE_ODDS = 16.0
_TAIL_CLASSES = 256
_ANCHORED = ((16, 0.1), (32, 0.1), (32, 0.05), (32, 0.03), (64, 0.03), (128, 0.01))  # classes of an anchor, least gain
PILOT_PER_CLASS = 20  # labels; below, a learned tail may be worse than an even one (docs/log.md)
_LEAST_SHARE, _MOST_SHARE = 1 / 4, 3 / 4  # of a pilot that is measured
_MOST_MEASURED = 4096


@dataclass(frozen=True)
class Rung:
    """An encoding that has been tried on some labels.

    Attributes:
        field_bytes: Bytes on disk per label.
        table_bytes: Bytes of the encoding's tables, which a store of `num_labels` has once.
        fidelity: `Fidelity.summary` at those declared temperatures that can be served.
        anchor_bytes: Bytes of an anchor, which the `num_views` labels of a sample share.
    """

    encoding: Encoding
    temperatures: tuple[float, ...]
    num_labels: int
    field_bytes: float
    table_bytes: int
    fidelity: dict[str, Any]
    anchor_bytes: float = 0.0
    num_views: int = 1

    @property
    def label_bytes(self) -> float:
        """The bytes on disk per label with its share of the anchor and of the tables."""
        return self.field_bytes + self.anchor_bytes / self.num_views + self.table_bytes / self.num_labels

    @property
    def worst_kl(self) -> float | None:
        """The largest mean KL in nats, as `worst` has it."""
        return self.worst("mean")

    def worst(self, figure: Figure) -> float | None:
        """Returns a figure's largest value over all declared temperatures, in nats; None where one
        of them can't be served.
        """
        values = [kl[figure] for kl in self.fidelity["kl_nats"].values()]
        return max(values) if len(values) == len(self.temperatures) else None


@dataclass(frozen=True)
class TrialLabels:
    """A few labels to try encodings on, and the store that they stand for.

    Attributes:
        measured: Log-probabilities at the stored temperature.
        pilot: Others, which encodings learn from.
        num_labels: Labels of the store, over which tables are spread.
        block_samples: Samples of its blocks; a block here has no more rows than are measured.
        num_views: Views of the store, over which an anchor is spread.
        first_views: What anchors of the measured labels are made of. Encodings of other anchors are
            not tried.
    """

    measured: Float[torch.Tensor, "labels classes *grid"]
    pilot: Float[torch.Tensor, "others classes *grid"]
    space: LabelSpace
    num_labels: int
    block_samples: int
    num_views: int = 1
    first_views: FirstViews = field(default_factory=FirstViews.none)

    @classmethod
    def of_pilot(
        cls, pilot: Pilot, space: LabelSpace, num_samples: int, block_samples: int, num_views: int
    ) -> "TrialLabels":
        """Returns a part of a pilot's labels, spread over it, to be measured, and the others.

        Those that a tail needs to be learned from are left to it, but a quarter is measured at
        least. Few labels compress worse than a store's blocks: a top-2 label of ten classes takes
        21% more among 512, 5% among 1,536.

        Args:
            num_samples: Of the store that is about to be written, with so many views.
        """
        log_probs = pilot.values
        count = len(log_probs)
        spare = max(_LEAST_SHARE * count, min(count - PILOT_PER_CLASS * space.num_classes, _MOST_SHARE * count))
        some = min(int(spare), _MOST_MEASURED)
        places = torch.arange(count) * some
        is_measured = (places + some) // count > places // count
        if not 0 < int(is_measured.sum()) < count:
            is_measured, others = torch.ones_like(is_measured), log_probs
        else:
            others = log_probs[~is_measured]
        first_views = pilot.first_views(is_measured.nonzero()[:, 0].numpy(), counts_to_try(range(num_views)))
        num_labels = num_views * num_samples
        return cls(log_probs[is_measured], others, space, num_labels, block_samples, num_views, first_views)

    def rungs(self, stage: str) -> dict[str, Rung]:
        """Returns every rung of the ladder, written as a real store and measured."""
        encodings = ladder(self.space, list(self.first_views.means))
        rungs = {}
        with progress(stage, len(encodings), "encoding") as on_encodings:
            for name, encoding in encodings.items():
                rungs[name] = measure_encoding(self, encoding)
                on_encodings(1)
        return rungs


def ladder(space: LabelSpace, anchor_views: Sequence[int] = ()) -> dict[str, Encoding]:
    """Returns the encodings worth trying on such labels, by a short name.

    Args:
        anchor_views: The numbers of views that anchors can be made of.
    """
    settings: dict[str, Any] = {"range_nats": _RANGE_NATS, "tail_classes": _TAIL_CLASSES}
    encodings: dict[str, Encoding] = {"dense_float16": DenseFloat16()}
    for levels in (255, 128, 64, 32):
        encodings[f"dense_uint8/{levels}"] = DenseUint8(range_nats=_RANGE_NATS, levels=levels)
    for k in (1, 2, 3, 5, 10):
        for levels in (255, 64, 32):
            encodings[f"topk {k}/{levels}"] = TopK(k=k, levels=levels, tail="prior", **settings)
        encodings[f"topk {k}/64 uniform"] = TopK(k=k, levels=64, tail="uniform", **settings)
    for draws in (12, 50):
        encodings[f"sampled {draws}"] = Sampled(draws=draws, seed=0)
    for levels in (127, 63, 31, 15):
        encodings[f"log_odds_uint8/{levels}"] = LogOddsUint8(range_nats=_RANGE_ODDS, steps=levels)
    for k in (1, 2, 4, 8, 16):
        encodings[f"top_odds {k}/31"] = TopOdds(k=k, range_nats=_RANGE_ODDS, steps=31)
    steps: dict[str, Any] = {"k": 8, "step_nats": 0.75, "anchor_step_nats": 1.0}
    for views in anchor_views:
        for listed, gain in _ANCHORED:
            anchored = Anchored(anchor_views=views, anchor_classes=listed, least_gain_nats=gain, **steps)
            encodings[f"anchored {listed}/{gain:g}/{views}"] = anchored
    return {name: encoding for name, encoding in encodings.items() if _fits(encoding, space)}


def measure_encoding(labels: TrialLabels, encoding: Encoding) -> Rung:
    """Returns the size and the fidelity of a real store of the measured labels, each of another
    sample, written into a temporary folder.
    """
    measured, space = labels.measured, labels.space
    with temporary_folder() as folder:
        writer = _begin(labels, encoding, len(measured), folder / "trial.zarr")
        if encoding.anchor_views:
            _write_anchors(writer, labels.first_views.of_labels(encoding.anchor_views))
        for block in writer.manifest.blocks():
            writer.write(block, measured[block.rows.start : block.rows.stop] * space.temperature)
        finished = writer.finish()
        size = _bytes_on_disk(writer.path, encoding.fields(space))
        anchor_bytes = _bytes_of_an_anchor(labels, encoding, folder / "anchors.zarr")
    assert finished.fidelity is not None, "every rung of the ladder holds labels"
    return Rung(
        encoding,
        space.temperatures,
        labels.num_labels,
        size / len(measured),
        finished.table_bytes or 0,
        finished.fidelity,
        anchor_bytes,
        labels.num_views,
    )


def _begin(labels: TrialLabels, encoding: Encoding, num_samples: int, path: Path) -> StoreWriter:
    space = labels.space
    manifest = Manifest(
        encoding=encoding.to_dict(),
        class_names=[str(number) for number in range(space.num_classes)],
        view_numbers=[0],
        num_samples=num_samples,
        block_samples=min(labels.block_samples, num_samples),
        temperature=space.temperature,
        temperatures=list(space.temperatures),
        views={},
        dataset_fingerprint="",
        teacher=None,
        signal=space.signal_kind,
        positions=space.positions,
    )
    ids = np.arange(1, num_samples + 1, dtype=np.uint64)
    canaries = Canaries(ids[:1], np.zeros(1, dtype=np.int64), np.zeros((1, 1, 1, 1), dtype=np.uint8))
    return StoreWriter(path, path.with_suffix(".records"), manifest, ids, canaries, encoding.learn(labels.pilot, space))


def _write_anchors(writer: StoreWriter, means: Float[torch.Tensor, "samples classes"]) -> None:
    for rows in writer.manifest.ranges():
        writer.write_anchors(rows, means[rows.start : rows.stop])


def _bytes_of_an_anchor(labels: TrialLabels, encoding: Encoding, path: Path) -> float:
    """Returns the bytes on disk of a sample's anchor.

    Each sample has its anchor once, though several of its views may be measured: equal anchors
    would be compressed to almost nothing.
    """
    if encoding.anchor_views == 0:
        return 0.0
    means = labels.first_views.means[encoding.anchor_views]
    _write_anchors(_begin(labels, encoding, len(means), path), means)
    return _bytes_on_disk(path, encoding.anchors(labels.space)) / len(means)


def _bytes_on_disk(path: Path, arrays: Iterable[str]) -> int:
    """Returns what the values of some arrays of a store take."""
    files = (file for name in arrays for file in (path / name).rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if file.name != "zarr.json")


def _fits(encoding: Encoding, space: LabelSpace) -> bool:
    try:
        encoding.check(space, "ladder")
    except ConfigError:
        return False
    return True
