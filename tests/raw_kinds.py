"""Made-up texts, sounds and rows in files, as users have them."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from kinds import CLASSES

from pipeline.data.input_kinds import InputKindName


def _write_rows(folder: Path, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["height", "place", "label"])
        for number in range(count):
            label = CLASSES[number % 3]
            table.writerow([round(rng.normal(100 * (number % 3), 50), 2), ["bay", "glade", "ridge"][number % 3], label])
    return {"kind": "rows", "path": str(folder / "rows.csv"), "label_column": "label"}


def _write_texts(folder: Path, count: int) -> dict[str, Any]:
    rng, words = np.random.default_rng(0), ["the", "a", "of", "and", "is"]
    with (folder / "texts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for number in range(count):
            own = [["boat", "wave"], ["tree", "moss"], ["peak", "snow"]][number % 3]
            table.writerow([" ".join([*rng.choice(words, 5), *rng.choice(own, 2), str(number)]), CLASSES[number % 3]])
    return {"kind": "text_table", "path": str(folder / "texts.csv"), "label_column": "label"}


def _write_sounds(folder: Path, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / "sounds" / ["sea", "wood", "hill"][number % 3]
        place.mkdir(parents=True, exist_ok=True)
        tone = 9000 * np.sin(np.arange(500) * (0.3 + 0.5 * (number % 3))) + rng.normal(0, 300, 500)
        soundfile.write(place / f"{number}.wav", np.rint(tone).astype(np.int16), 2000, subtype="PCM_16")
    return {"kind": "sound_folder", "path": str(folder / "sounds")}


_WRITERS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "row": _write_rows,
    "tokens": _write_texts,
    "waveform": _write_sounds,
}


def write_raw(folder: Path, kind: InputKindName, count: int = 240) -> dict[str, Any]:
    """Writes samples of three classes below a folder and returns `prepare.source` of them."""
    return _WRITERS[kind](folder, count)
