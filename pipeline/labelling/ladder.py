"""A ladder of encodings, and what a rung takes on disk and loses of the labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pipeline.core.errors import ConfigError
from pipeline.labelling.temporary import temporary_folder
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import Canaries
from pipeline.labels.encodings import Encoding, LabelSpace
from pipeline.labels.encodings.dense_float16 import DenseFloat16
from pipeline.labels.encodings.dense_uint8 import DenseUint8
from pipeline.labels.encodings.sampled import Sampled
from pipeline.labels.encodings.topk import TopK
from pipeline.labels.manifest import Manifest

_RANGE_NATS = 40.0
_TAIL_CLASSES = 256


@dataclass(frozen=True)
class Rung:
    """An encoding that has been tried on some labels.

    Attributes:
        field_bytes: Bytes on disk per label.
        table_bytes: Bytes of the encoding's tables, which a store of `num_labels` has once.
        fidelity: `Fidelity.summary` at those declared temperatures that can be served.
    """

    encoding: Encoding
    temperatures: tuple[float, ...]
    num_labels: int
    field_bytes: float
    table_bytes: int
    fidelity: dict[str, Any]

    @property
    def label_bytes(self) -> float:
        """The bytes on disk per label with its share of the tables."""
        return self.field_bytes + self.table_bytes / self.num_labels

    @property
    def worst_kl(self) -> float | None:
        """The largest mean KL in nats over all declared temperatures; None where one of them can't
        be served.
        """
        means = [kl["mean"] for kl in self.fidelity["kl_nats"].values()]
        return max(means) if len(means) == len(self.temperatures) else None


def ladder(space: LabelSpace) -> dict[str, Encoding]:
    """Returns the encodings worth trying on such labels, by a short name."""
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
    return {name: encoding for name, encoding in encodings.items() if _fits(encoding, space)}


def measure_encoding(
    log_probs: Float[torch.Tensor, "labels classes"],
    encoding: Encoding,
    space: LabelSpace,
    *,
    pilot: Float[torch.Tensor, "others classes"],
    num_labels: int,
    block_samples: int,
) -> Rung:
    """Returns the size and the fidelity of a real store of these labels, written into a temporary
    folder.

    Args:
        log_probs: The teacher's at the stored temperature, in their order in a block.
        pilot: Other labels, which the encoding learns its tables from.
        num_labels: The labels of the store that this stands for, over which its tables' bytes are
            spread.
        block_samples: The samples of that store's blocks; a block here has no more rows than there
            are labels.
    """
    manifest = Manifest(
        encoding=encoding.to_dict(),
        class_names=[str(number) for number in range(space.num_classes)],
        view_numbers=[0],
        num_samples=len(log_probs),
        block_samples=min(block_samples, len(log_probs)),
        temperature=space.temperature,
        temperatures=list(space.temperatures),
        views={},
        dataset_fingerprint="",
        teacher=None,
    )
    ids = np.arange(1, len(log_probs) + 1, dtype=np.uint64)
    canaries = Canaries(ids[:1], np.zeros(1, dtype=np.int64), np.zeros((1, 1, 1, 1), dtype=np.uint8))
    with temporary_folder() as folder:
        path = folder / "trial.zarr"
        tables = encoding.learn(pilot, space)
        writer = StoreWriter(path, folder / "records", manifest, ids, canaries, tables)
        for block in manifest.blocks():
            writer.write(block, log_probs[block.rows.start : block.rows.stop] * space.temperature)
        finished = writer.finish()
        size = sum(
            file.stat().st_size
            for name in encoding.fields(space)
            for file in (path / name).rglob("*")
            if file.is_file() and file.name != "zarr.json"
        )
    assert finished.fidelity is not None, "every rung of the ladder holds labels"
    return Rung(
        encoding,
        space.temperatures,
        num_labels,
        size / len(log_probs),
        finished.table_bytes or 0,
        finished.fidelity,
    )


def _fits(encoding: Encoding, space: LabelSpace) -> bool:
    try:
        encoding.check(space, "ladder")
    except ConfigError:
        return False
    return True
