"""docs/params/sound.yaml in small, on tones that are made here: from wav files to a student and its
twin, and what a student refuses.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from project import write_params  # isort: skip

from pipeline.core.closure import TOP
from pipeline.core.config import load_params
from pipeline.core.errors import StoreError
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from stages import dump_labels, prepare, train_student, train_teacher, verify_labels

RATE = 2000
PITCHES = [(200, 300), (300, 200), (450, 700), (700, 450)]  # first half, second half


def write_sounds(folder: Path) -> None:
    """Writes recordings of eight speakers, and the table that lists them."""
    rng, rows = np.random.default_rng(0), ["path,label"]
    folder.mkdir()
    for label, pitches in enumerate(PITCHES):
        for speaker in "abcdefgh":
            for number in range(8):
                time = np.arange(250) / RATE
                halves = [np.sin(2 * np.pi * pitch * (1 + rng.normal(0, 0.02)) * time) for pitch in pitches]
                sound = 5000 * np.concatenate(halves) + rng.normal(0, 400, 500)
                name = f"{label}_{speaker}_{number}.wav"
                soundfile.write(folder / name, np.rint(sound).astype(np.int16), RATE)
                rows.append(f"{name},class{label}")
    (folder / "sounds.csv").write_text("\n".join(rows) + "\n")


def small(params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the params file for these sounds, with short trainings of a student and its twin."""
    params["prepare"] |= {
        "source": {"kind": "sound_manifest", "path": str(folder / "sounds.csv")},
        "sound": {"rate_hz": RATE, "seconds": 0.24, "crop": "centre"},
    }
    for settings in (params["train_teacher"], params["students_defaults"]):
        settings |= {"input": {"mels": 16, "window_ms": 32.0, "hop_ms": 16.0}, "device": "cpu"}
        settings["fit"] |= {"epochs": 8, "batch_size": 32, "learning_rate": 0.02, "precision": "float32"}
    params["train_teacher"]["model_settings"] = {"width": 8, "depth": 1}
    views = params["train_teacher"]["views"]["operations"]
    for operation in (*views, *params["dump_labels"]["views"]["operations"]):
        if "most_samples" in operation:
            operation["most_samples"] = 40
    params["dump_labels"] |= {"num_views": 2, "device": "cpu", "block_samples": 64, "num_canaries": 16}
    params["dump_labels"]["views"]["operations"].append({"kind": "sound_mix", "alpha": 0.4, "probability": 0.5})
    params["verify_labels"]["device"] = "cpu"
    params["students"] = {name: params["students"][name] for name in ("conv", "conv_hard")}
    for row in params["students"].values():
        row["model_settings"] = {"width": 4, "depth": 1}
    return params


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a folder with prepared sounds, a teacher, its stores, a student and its twin."""
    folder = tmp_path_factory.mktemp("sound")
    write_sounds(folder / "raw")
    params = small(load_params(TOP / "docs/params/sound.yaml"), folder / "raw")
    path, data = write_params(folder, params), folder / "data"
    prepare.main(path, folder / "raw", data / "prepare", folder / "work")
    train_teacher.main(path, data / "prepare", data / "teacher", folder / "reports", folder / "work")
    dump_labels.main(path, data / "prepare", data / "teacher", data / "stores", folder / "work")
    verify_labels.main(path, data / "prepare", data / "teacher", data / "stores", folder / "verify.json")
    for name in params["students"]:
        student(folder, name)
    return folder


def student(folder: Path, name: str, prepared: str = "prepare", students: str = "students") -> None:
    data = folder / "data"
    stores, reports = str(data / "stores"), folder / "reports/train_student"
    train_student.main(name, folder / "params.yaml", data / prepared, stores, data / students, reports, folder / "work")


def test_speakers_are_in_one_split_each(made: Path) -> None:
    splits: dict[str, set[str]] = {}
    for row in (made / "data/prepare/samples.tsv").read_text().splitlines()[1:]:
        _, split, _, key = row.split("\t")
        splits.setdefault(key.split("_")[1], set()).add(split)
    assert sorted(map(len, splits.values())) == [1] * 8
    assert ImageDataset(made / "data/prepare").manifest.num_samples == {"train": 192, "val": 32, "test": 32}


def test_labels_are_of_sounds_and_a_student_learns_from_them(made: Path) -> None:
    store = StoreReader(str(made / "data/stores/dense8.zarr"))
    assert str(store.manifest.samples) != ""
    assert store.manifest.samples.detail == str(RATE)
    for path in ("train_teacher.json", "train_student/conv.json", "train_student/conv_hard.json"):
        val = json.loads((made / "reports" / path).read_text())["val"]
        assert val.get("accuracy", val.get("best", 0)) > 0.6, path


@pytest.mark.parametrize(
    ("sound", "told"),
    [
        ({"rate_hz": 1600, "seconds": 0.3, "crop": "centre"}, r"its labels are of .*2000.*; expected those of .*1600"),
        ({"rate_hz": RATE, "seconds": 0.2, "crop": "centre"}, r"none of these 192 samples is in it; run"),
    ],
    ids=["another rate", "another length"],
)
def test_other_sounds_are_refused_before_the_first_step(made: Path, sound: dict[str, Any], told: str) -> None:
    params = load_params(made / "params.yaml")
    params["prepare"]["sound"] = sound
    there = made / str(sound["rate_hz"] + int(1000 * sound["seconds"]))
    there.mkdir()
    path = write_params(there, params)
    prepare.main(path, made / "raw", there / "prepare", there / "work")
    with pytest.raises(StoreError, match=told):
        train_student.main(
            "conv", path, there / "prepare", str(made / "data/stores"), there / "students", there, there / "work"
        )
    assert not (there / "students/conv").exists()
