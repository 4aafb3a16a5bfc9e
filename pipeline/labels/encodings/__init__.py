"""Encodings: the ways to write a label vector, one file each.

A new one is a file with a class and its codec, and a name in the table below; its `kind` is its
name in `params.yaml`. What it learns from a pilot, such as a codebook, is its `tables` and
`learn`; what it keeps of each sample, its `anchors`. docs/store-format.md has a section for each
kind; `tune` tries what labelling/ladder.py lists. `base.py` has the two abstract classes and what
they share, `tail.py` the models of the tail that `topk.py` uses.

A row of the table `encodings:` is `<row name>: {kind: <its kind>, ...settings}`; the row's name is
the store's."""

from pathlib import Path

from pipeline.core.config import PARAMS, load_rows, validate_kind
from pipeline.labels.encodings.anchored import Anchored
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace, log_normalise
from pipeline.labels.encodings.dense_float16 import DenseFloat16
from pipeline.labels.encodings.dense_uint8 import DenseUint8
from pipeline.labels.encodings.sampled import Sampled
from pipeline.labels.encodings.topk import TopK
from pipeline.labels.encodings.unlabelled import Unlabelled

ENCODINGS: dict[str, type[Encoding]] = {
    cls.kind: cls for cls in (DenseFloat16, DenseUint8, TopK, Anchored, Sampled, Unlabelled)
}

__all__ = [
    "ENCODINGS",
    "NO_ANCHORS",
    "Codec",
    "Encoding",
    "Field",
    "LabelSpace",
    "build_encoding",
    "log_normalise",
    "read_encodings",
]


def build_encoding(row: object, where: str) -> Encoding:
    """Returns the encoding that a row (or a store's manifest) names; raises ConfigError where kind
    or settings are wrong.
    """
    encoding: Encoding = validate_kind(ENCODINGS, row, where)
    return encoding


def read_encodings(params: Path = PARAMS) -> dict[str, Encoding]:
    """Returns the encodings of the table `encodings` by name; raises ConfigError where a row is
    wrong.
    """
    rows = load_rows("encodings", params)
    return {name: build_encoding(row, f"{params}: encodings.{name}") for name, row in rows.items()}
