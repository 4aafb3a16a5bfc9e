"""The settings of a new project whose pixels have classes: networks, stores, sizes of passes.

A map of logits is thousands of times as large as one row of them, so fewer are taken at a time.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.config import Setting
from pipeline.core.errors import listed
from pipeline.doctor.choice import Choice, value_at
from pipeline.labels.encodings import ENCODINGS

SIDE = 8  # sides are multiples of it: the teacher halves them three times
_STORE = "cells"
_CELLS = {"kind": "dense_uint8", "range_nats": 20.0, "levels": 64, "positions": {"stride": 4}}
_TEACHER = {"widths": [16, 32, 64, 96], "depth": 1, "up": "bilinear"}
_FEWER = {
    "dump_labels.pilot_labels": 256,
    "dump_labels.batch_size": 128,
    "dump_labels.block_samples": 1024,
    "verify_labels.num_labels": 256,
    "verify_labels.batch_size": 128,
    "evaluate.robustness.num_images": 500,
}


def fit_grid(params: Mapping[str, Any]) -> Iterator[Choice]:
    """Yields the networks, the encoding and the sizes of passes for classes of pixels."""
    why = "each pixel has a class"
    students = value_at(params, "students")
    networks = {"train_teacher": _TEACHER} | {f"students.{name}": _student(row) for name, row in students.items()}
    settings = [Setting(f"{place}.model", "unet_small", why) for place in networks]
    settings += [Setting(f"{place}.model_settings", value, why) for place, value in networks.items()]
    yield Choice("networks: unet_small, because each pixel has a class", settings)
    unfit = [name for name, row in value_at(params, "encodings").items() if not _is_fit(row)]
    removed = [Setting(f"encodings.{name}", None, why, removed=True) for name in unfit]
    named = [
        Setting(f"students.{name}.labels", _STORE, why) for name, row in students.items() if row["labels"] in unfit
    ]
    line = f"labels: store {_STORE}, of each 4 x 4 pixels; no store {listed(unfit, 60)}: made for one class an image"
    yield Choice(line, [*removed, Setting(f"encodings.{_STORE}", _CELLS, why), *named])
    fewer = [Setting(entry, value, "maps of logits are large") for entry, value in _FEWER.items()]
    yield Choice("passes: of fewer images at a time, because maps of logits are large", fewer)


def whole_sides(sides: tuple[int, int]) -> tuple[int, int]:
    """Returns height and width as the nearest multiples that networks take."""
    height, width = (max(SIDE, (side + SIDE // 2) // SIDE * SIDE) for side in sides)
    return height, width


def _student(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a student about as wide as one of the defaults."""
    width = row["model_settings"].get("width", 16)
    return {"widths": [max(4, width // 2), width, 2 * width], "depth": 1, "up": "bilinear"}


def _is_fit(row: Mapping[str, Any]) -> bool:
    signals = ENCODINGS[row["kind"]].signals if row["kind"] in ENCODINGS else ()
    return "positions" in row or not {"grid", "vector"}.isdisjoint(signals)
