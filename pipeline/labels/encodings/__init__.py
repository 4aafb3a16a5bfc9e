"""Encodings: the ways to write a label vector, one file each.

A new one is a file with a class and its codec, and a name in the table below; its `kind` is its
name in `params.yaml`. What it learns from a pilot, such as a codebook, is its `tables` and
`learn`; what it keeps of each sample, its `anchors`. docs/store-format.md has a section for each
kind; `tune` tries what labelling/ladder.py lists. `base.py` has the two abstract classes and what
they share, `tail.py` the models of the tail that `topk.py` uses, `anchors.py` what `anchored.py`
keeps of a sample, `vectors.py` what encodings of embeddings share, `at_positions.py` the encoding
of labels at positions of a grid, which holds a row of another kind at each, and `positions.py`
which positions these are.

A row of the table `encodings:` is `<row name>: {kind: <its kind>, ...settings}`; the row's name is
the store's. One for a grid has the key `positions`, too. In place of an encoding it may name a
budget (`kind: auto`, budget.py): the dump chooses the encoding, and the store's manifest has the
row that it became."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.config import PARAMS, load_rows, validate_kind
from pipeline.core.errors import ConfigError
from pipeline.labels.encodings.anchored import Anchored
from pipeline.labels.encodings.at_positions import AtPositions, placed_at
from pipeline.labels.encodings.base import NO_ANCHORS, Codec, Encoding, Field, LabelSpace
from pipeline.labels.encodings.budget import FIGURES, Budget, Figure
from pipeline.labels.encodings.dense_float16 import DenseFloat16
from pipeline.labels.encodings.dense_uint8 import DenseUint8
from pipeline.labels.encodings.log_odds_uint8 import LogOddsUint8
from pipeline.labels.encodings.positions import build_positions
from pipeline.labels.encodings.sampled import Sampled
from pipeline.labels.encodings.sketch import Sketch
from pipeline.labels.encodings.top_odds import TopOdds
from pipeline.labels.encodings.topk import TopK
from pipeline.labels.encodings.unlabelled import Unlabelled
from pipeline.labels.encodings.vector_float16 import VectorFloat16
from pipeline.labels.encodings.vector_int8 import VectorInt8

ENCODINGS: dict[str, type[Encoding]] = {
    cls.kind: cls
    for cls in (
        DenseFloat16,
        DenseUint8,
        TopK,
        Anchored,
        Sampled,
        LogOddsUint8,
        TopOdds,
        VectorFloat16,
        VectorInt8,
        Sketch,
        Unlabelled,
    )
}

#: What a row of the table may be.
EncodingRow = Encoding | Budget

__all__ = [
    "ENCODINGS",
    "FIGURES",
    "NO_ANCHORS",
    "AtPositions",
    "Budget",
    "Codec",
    "Encoding",
    "EncodingRow",
    "Field",
    "Figure",
    "LabelSpace",
    "budgets_of",
    "build_encoding",
    "build_row",
    "encodings_of",
    "read_encodings",
]


def build_encoding(row: object, where: str) -> Encoding:
    """Returns the encoding that a row of a store's manifest names; raises ConfigError where kind or
    settings are wrong.
    """
    encoding = _build(ENCODINGS, row, where)
    assert isinstance(encoding, Encoding), "the table has no other"
    return encoding


def build_row(row: object, where: str) -> EncodingRow:
    """Returns the encoding or the budget that a row of the table `encodings` names; raises
    ConfigError where kind or settings are wrong.
    """
    return _build({**ENCODINGS, Budget.kind: Budget}, row, where)


def _build(kinds: Mapping[str, type[EncodingRow]], row: object, where: str) -> EncodingRow:
    """Returns the row; its key `positions` puts it at positions of a grid."""
    if not isinstance(row, dict) or "positions" not in row:
        built: EncodingRow = validate_kind(kinds, row, where)
        return built
    each = validate_kind(kinds, {key: value for key, value in row.items() if key != "positions"}, where)
    if isinstance(each, Budget):
        found, fix = "given, and kind 'auto' chooses among labels of whole samples", "name dense_uint8 or topk"
        raise ConfigError(f"{where}.positions", found, fix=fix)
    return placed_at(each, build_positions(row["positions"], f"{where}.positions"), f"{where}.positions")


def read_encodings(params: Path = PARAMS) -> dict[str, EncodingRow]:
    """Returns the rows of the table `encodings` by name; raises ConfigError where one is wrong."""
    rows = load_rows("encodings", params)
    return {name: build_row(row, f"{params}: encodings.{name}") for name, row in rows.items()}


def budgets_of(rows: Mapping[str, EncodingRow]) -> dict[str, Budget]:
    """Returns the rows whose encoding is still to be chosen."""
    return {name: row for name, row in rows.items() if isinstance(row, Budget)}


def encodings_of(rows: Mapping[str, EncodingRow]) -> dict[str, Encoding]:
    """Returns the rows that are encodings."""
    return {name: row for name, row in rows.items() if isinstance(row, Encoding)}
