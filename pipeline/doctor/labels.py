"""Label stores before they are written: what students will find in them, and how large they will be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from pipeline.core.errors import ConfigError, suggest
from pipeline.doctor.findings import Findings
from pipeline.doctor.images import Look
from pipeline.doctor.params import Params
from pipeline.labelling.settings import DumpLabels
from pipeline.labels.encodings import Codec, Encoding, LabelSpace
from pipeline.labels.fields import Labels, encode_logits
from pipeline.labels.reader import StoreReader
from pipeline.student.settings import TrainStudent
from pipeline.views import ViewSpec

MEASURED = 2000  # labels
_SPREAD_NATS = 3.0  # of made-up logits


@dataclass(frozen=True)
class Store:
    """A store that is there, or that the dump will write."""

    encoding: Encoding
    codec: Codec
    views: ViewSpec

    def labels(self, count: int) -> Labels:
        """So many made-up labels, as it keeps them."""
        ids = np.arange(1, count + 1, dtype=np.uint64)
        return encode_logits(self.codec, random_logits(count, self.codec.space.num_classes), ids, 0)


def random_logits(count: int, num_classes: int) -> Float[torch.Tensor, "labels classes"]:
    """Made-up logits, the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    return _SPREAD_NATS * torch.randn(count, num_classes, generator=generator)


def plan_stores(params: Params, dump: DumpLabels, look: Look, findings: Findings) -> dict[str, Store]:
    """The stores of the table `encodings`, of those that fit the classes; tells of the others, and of views that do not
    fit the images."""
    space, where = dump.space(len(look.data.class_names)), f"{params.path}: dump_labels"
    findings.attempt(dump.views.check, look.data.image_shape, f"{where}.views")
    stores = {}
    for name, encoding in params.encodings.items():
        before = findings.counts["error"]
        findings.attempt(encoding.check, space, f"{params.path}: encodings.{name}")
        if findings.counts["error"] == before:
            stores[name] = Store(encoding, _codec(encoding, space), dump.views)
    return stores


def _codec(encoding: Encoding, space: LabelSpace) -> Codec:
    log_probs = torch.log_softmax(random_logits(MEASURED, space.num_classes), dim=1)
    return encoding.codec(space, encoding.learn(log_probs, space))


def store_of(row: TrainStudent, planned: Mapping[str, Store], folder: Path, where: str) -> Store:
    """The store that a student names; raises ConfigError or StoreError where there is none, and will be none."""
    if row.labels in planned:
        return planned[row.labels]
    path = folder / f"{row.labels}.zarr"
    if path.exists():
        store = StoreReader(path)
        return Store(store.encoding, store.codec, store.views)
    there = {*planned, *(other.stem for other in folder.glob("*.zarr"))}
    expected = f"a row of `encodings`, or a store in {folder}, {suggest(row.labels, sorted(there))}"
    raise ConfigError(f"{where}.labels", repr(row.labels), expected=expected)
