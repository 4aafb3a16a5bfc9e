"""Predicts the class of a row: `python predict.py age=31 town=Ulm [model_int8.onnx]`, or JSON."""

# It needs onnxruntime and numpy, and nothing else.

import json
import math
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

_NO_VALUE = ("", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "nat", "none", "null")


def main(row: Mapping[str, Any], file: str = "model.onnx") -> None:
    session = network(file)
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    columns = about["input"]["columns"]
    if unknown := [name for name in row if name not in [column["name"] for column in columns]]:
        sys.exit(f"no column {unknown[0]!r}; expected {', '.join(column['name'] for column in columns)}")
    codes = [code_of(column, row.get(column["name"])) for column in columns]  # one that is not given is missing
    show(about, session.run(["logits"], {"codes": np.array([codes], np.int32)})[0][0])


def network(file: str) -> onnxruntime.InferenceSession:
    """Returns the network in a file beside this script, or at a path."""
    found = [path for path in (Path(__file__).parent / file, Path(file)) if path.is_file()]
    if not found:
        beside = ", ".join(sorted(path.name for path in Path(__file__).parent.glob("*.onnx")))
        sys.exit(f"no file {file}; expected one of those beside this script: {beside}")
    return onnxruntime.InferenceSession(found[0])


def code_of(column: Mapping[str, Any], cell: object) -> int:
    """Returns the code of a cell: 0 where it is missing."""
    if cell is None or str(cell).strip().lower() in _NO_VALUE:
        return 0
    if column["type"] == "category":  # 1 is a name that is rare or new
        whole = isinstance(cell, float) and cell.is_integer()
        name = unicodedata.normalize("NFC", str(int(cell) if whole else cell)).strip()  # type: ignore[call-overload]
        return 2 + column["names"].index(name) if name in column["names"] else 1
    try:
        number = float(str(cell).replace("_", "?")) if not isinstance(cell, bool) else float(cell)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        sys.exit(f"{column['name']}: {cell!r} is no number")
    return 1 + bisect_right(column["edges"], number)


def show(about: dict[str, Any], logits: np.ndarray) -> None:
    logits, names = logits.astype(np.float64), about["class_names"]
    if about.get("signal") == "binary":  # independent classes: every one, and * from one half on
        probs = 1 / (1 + np.exp(-logits))
        for index in np.argsort(-probs, kind="stable"):
            print(f"{probs[index]:7.2%} {'*' if probs[index] >= 0.5 else ' '} {names[index]}")
        return
    probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for index in probs.argsort()[::-1][:5]:
        print(f"{probs[index]:7.2%}  {names[index]}")


def read(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the row that arguments give, as JSON or as name=value, and the other arguments."""
    if arguments and arguments[0].lstrip().startswith("{"):
        try:
            return json.loads(arguments[0]), arguments[1:]
        except ValueError as error:
            sys.exit(f"no JSON: {error}")
    given = [argument for argument in arguments if "=" in argument]
    return dict(argument.split("=", 1) for argument in given), [each for each in arguments if "=" not in each]


if __name__ == "__main__":
    row, others = read(sys.argv[1:])
    if not row:
        sys.exit(f"no row; {__doc__}")
    main(row, *others[:1])
