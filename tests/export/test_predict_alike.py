"""Exported scripts make of a sample what preparing makes of it, and print answers alike."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.data.row_columns import Columns
from pipeline.export import predict, predict_row, predict_sound, predict_text
from pipeline.preparation.sound_files import read_sound
from pipeline.preparation.sounds import SoundForm


def test_scripts_that_stand_alone_print_answers_by_the_same_lines() -> None:
    sources = [inspect.getsource(script.show) for script in (predict_row, predict_sound, predict_text)]
    assert sources[1:] == sources[:-1]
    sources = [inspect.getsource(script.network) for script in (predict, predict_row, predict_sound, predict_text)]
    assert sources[1:] == sources[:-1]


def test_a_network_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    shutil.copy(predict_row.__file__, tmp_path / "predict.py")
    (tmp_path / "model.onnx").touch()
    done = subprocess.run(
        [sys.executable, "predict.py", "age=3", "model8.onnx"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no file model8.onnx; expected one of those beside this script: model.onnx\n"


def test_a_text_file_that_can_not_be_read_is_not_taken_for_the_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Käse".encode("latin-1"))
    for name, reason in (("latin.txt", "not UTF-8"), ("lettr.txt", "no file")):
        with pytest.raises(SystemExit, match=reason):
            predict_text.read(str(tmp_path / name))
    assert predict_text.read("see letter.txt") == "see letter.txt"


@pytest.mark.parametrize(
    ("subtype", "channels", "rate"),
    [("PCM_16", 1, 8000), ("PCM_16", 2, 8000), ("PCM_24", 3, 16000), ("PCM_U8", 1, 11025), ("FLOAT", 2, 6000)],
)
@pytest.mark.parametrize("crop", ["centre", "start"])
def test_a_sound_is_read_and_fitted_as_it_is_prepared(
    tmp_path: Path, subtype: str, channels: int, rate: int, crop: Any
) -> None:
    path, rng = tmp_path / "one.wav", np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-1, 1, (700, channels)), rate, subtype=subtype)
    expected, found = read_sound(path, 8000), predict_sound.read(str(path), 8000)
    assert np.array_equal(found, expected)
    for length in (101, 700, 1501):
        form = SoundForm(8000, length, crop)
        assert np.array_equal(predict_sound.fit(found, length, crop), form.fitted(expected))


def test_what_is_no_sound_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.5, np.nan]), 8000, subtype="FLOAT")
    for name, reason in (("text.wav", "not a sound"), ("empty.wav", "no samples"), ("nan.wav", "no numbers")):
        with pytest.raises(SystemExit, match=reason):
            predict_sound.read(str(tmp_path / name), 8000)


COLUMNS = [
    {"name": "age", "type": "number", "num_codes": 4, "edges": [18.0, 65.5], "values": [9.0, 40.0, 70.0]},
    {"name": "town", "type": "category", "num_codes": 5, "names": ["3", "K\u00f6ln", "Ulm"]},
]
CELLS = [
    *(("age", cell) for cell in (17.9, 18, "18", " 65.5 ", 1e300, -5, "1e2", ".5", True, None, "", "NA", "nan")),
    *(("town", cell) for cell in ("Ulm", " Ulm ", "Ko\u0308ln", 3, 3.0, "3.0", "ulm", None, "", "null", "None", 2.5)),
]


@pytest.mark.parametrize(("name", "cell"), CELLS, ids=[f"{name}-{cell!r}" for name, cell in CELLS])
def test_a_cell_has_the_code_that_it_is_prepared_with(name: str, cell: object) -> None:
    place = ["age", "town"].index(name)
    columns = Columns.of_facts({"columns": COLUMNS})
    assert predict_row.code_of(COLUMNS[place], cell) == columns.columns[place].code(cell)


def test_a_row_comes_as_json_or_as_pairs() -> None:
    row = {"age": "31", "town": "a=b"}
    assert predict_row.read(["age=31", "town=a=b", "model_int8.onnx"]) == (row, ["model_int8.onnx"])
    assert predict_row.read(['{"age": 31}', "model_int8.onnx"]) == ({"age": 31}, ["model_int8.onnx"])
    with pytest.raises(SystemExit, match="no JSON"):
        predict_row.read(['{"age": 31'])


@pytest.mark.parametrize("cell", ["old", "inf", "1_000", "0x10", "1e999"])
def test_a_cell_that_is_no_number_is_refused(cell: str) -> None:
    with pytest.raises(SystemExit, match="age"):
        predict_row.code_of(COLUMNS[0], cell)
