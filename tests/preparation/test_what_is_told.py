"""The stage and the doctor print what was understood of the images, from one function."""

import errno
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import make_samples, write_folder
from PIL import Image
from project import files_of, small_params, write_params

import pipeline.core.scratch
from pipeline.core.config import load_section
from pipeline.core.errors import DataError
from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import decode
from pipeline.doctor import load, trials
from pipeline.doctor.checkup import check_up
from pipeline.doctor.findings import Findings
from pipeline.doctor.folders import Folders
from pipeline.doctor.source import SourceLook
from pipeline.labelling import temporary
from pipeline.labelling.writer import StoreWriter
from pipeline.preparation import listing as listing_module
from pipeline.preparation.listing import Listing, list_images
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.notes import Notes
from pipeline.preparation.statistics import values_line
from pipeline.preparation.understood import Understood
from stages import prepare


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ant", "bee"], ["class 0 'ant': 3 train, 1 test", "class 1 'bee': 3 train, 1 test"]),
        ([f"c{number:03}" for number in range(100)], ["class 4 'c004'", "classes 5 to 96 are not shown", "class 97"]),
        (["x" * 5_000, "y"], ["class 0 'xxx"]),
    ],
)
def test_classes_are_shown_by_name_with_counts_and_splits_and_few_of_many(
    names: list[str], expected: list[str]
) -> None:
    counts = {(split, name): count for name in names for split, count in (("train", 3), ("test", 1))}
    lines = Understood(names, counts).lines()
    for part in expected:
        assert any(line.startswith(part) for line in lines), lines
    assert len(lines) <= 10
    assert all(len(line) <= 300 for line in lines)


@pytest.mark.parametrize(
    ("understood", "expected"),
    [
        (Understood(["a", "b"], {("train", None): 7}), "no class (unlabelled): 7 train"),
        (Understood(["a", "b"], {}), "class 1 'b': no images"),
        (Understood(["a", "b"], {("train", "a"): 2_000}, is_whole=False), "first 2,000 images alone"),
        (Understood(["a", "b"], {}, held_out={"val": 0.1}), "held out of train: val (10%)"),
        (Understood(["a", "b"], {}, remarks=["2 links"]), "files: 2 links"),
    ],
)
def test_what_differs_from_the_usual_is_a_line_of_its_own(understood: Understood, expected: str) -> None:
    assert sum(expected in line for line in understood.lines()) == 1


def test_a_listing_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, make_samples())
    source = build_source({"kind": "folder", "path": str(tmp_path)}, "here")
    assert list_images(source, tmp_path).counts["train", "ant"] == 3
    short = list_images(source, tmp_path, seconds=0.0)
    assert isinstance(short, Listing)
    assert (short.counts["train", "ant"], short.is_whole) == (3, True)  # by the labels, which were read before
    monkeypatch.setattr(type(source), "counts", lambda self, raw: None)
    short = list_images(source, tmp_path, seconds=0.0)
    assert (short.counts.total(), short.is_whole) == (1, False)


def test_files_left_out_and_folders_below_classes_are_noted_once_with_an_example(tmp_path: Path) -> None:
    write_folder(tmp_path, make_samples())
    deep = tmp_path / "train/ant/more/deep"
    deep.mkdir(parents=True)
    (tmp_path / "train/ant/000.png").rename(deep / "000.png")
    for name in ("ant/a.txt", "bee/b.txt", "bee/raw"):
        (tmp_path / "train" / name).touch()
    source = build_source({"kind": "folder", "path": str(tmp_path)}, "here")
    source.class_names(tmp_path)
    for _ in range(2):
        list_images(source, tmp_path)
    assert source.notes.lines() == [
        "2 files left out: no image by its name (.txt), e.g. 'train/ant/a.txt'",
        "1 files left out: no image by its content (no suffix), e.g. 'train/bee/raw'",
        "1 images in folders below their class folders (`leave_out: [more]` would leave them out), e.g. 'more'",
    ]


def test_of_many_remarks_the_most_frequent_are_shown_and_long_examples_are_cut() -> None:
    notes = Notes()
    for number in range(20):
        notes.add(f"of kind {number}", "x" * 500, number)
    lines = notes.lines()
    assert len(lines) == 9
    assert lines[0].startswith("19 of kind 19")
    assert "12 more" in lines[-1]
    assert max(map(len, lines)) < 300


# The same settings and files, as the stage reads them.

Pictures = Mapping[str, np.ndarray]  # pixels by path below the source


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def grey(seed: int, most: int = 255, kind: type = np.uint8) -> np.ndarray:
    """Returns a picture of 4 x 4 pixels from 0 to `most`, which both occur."""
    values = np.random.default_rng(seed).integers(0, most, (4, 4))
    values[0, :2] = (0, most)
    return values.astype(kind)


def colour(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)


def pictures(first: np.ndarray | None = None, last: np.ndarray | None = None, **changes: Any) -> dict[str, np.ndarray]:
    """Returns ten grey pictures in each of two classes, of which the first and the last may be
    others.
    """
    found = {
        f"{name}/{row}.png": grey(row + 10 * (name == "bee"), **changes) for name in ("ant", "bee") for row in range(10)
    }
    for name, other in (("ant/0.png", first), ("bee/9.png", last)):
        if other is not None:
            found[name] = other
    return found


class Project:
    """A folder with pictures, in which the stage runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, found: Pictures) -> None:
        for name, pixels in found.items():
            path = self.folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(pixels))

    def run(self, found: Pictures | None = None, **settings: Any) -> ImageDataset:
        self.put(found or {})
        section = small_params()["prepare"] | {"source": {"kind": "folder", "path": str(self.folder / "images")}}
        write_params(self.folder, {"prepare": section | {"val_fraction": 0.2, "test_fraction": 0.2} | settings})
        prepare.main(self.folder / "params.yaml", self.folder / "raw", self.folder / "data", self.folder / "work")
        return ImageDataset(self.folder / "data")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(pipeline.core.scratch, "code_fingerprint", lambda script: "code")
    return Project(tmp_path)


@pytest.fixture
def looks_at_few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks at the first image of each class alone."""
    monkeypatch.setattr(listing_module, "_LOOKED_AT", 1)
    return None


def all_pixels(dataset: ImageDataset) -> np.ndarray:
    return np.concatenate([dataset.split(name).inputs.numpy() for name in ("train", "val", "test")])


@pytest.mark.parametrize(
    ("found", "settings", "channels", "line"),
    [
        (pictures(), {}, 1, "colour: grey (1 channel)"),
        (pictures(first=colour(1)), {}, 3, "colour: colour (3 channels)"),
        (pictures(last=colour(1)), {}, 3, "bee/9.png has colour; beginning again"),
        (pictures(last=colour(1)), {"channels": 1}, 1, "colour: grey (1 channel)"),
        (pictures(last=colour(1)), {"storage": "encoded"}, 3, "bee/9.png has colour; beginning again"),
    ],
)
def test_all_images_are_coloured_where_one_is_wherever_it_stands(
    found: Pictures,
    settings: dict[str, Any],
    channels: int,
    line: str,
    project: Project,
    looks_at_few: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert project.run(found, **settings).manifest.image_shape == [channels, 4, 4]
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("most", "others", "settings", "bits"),
    [
        (4_095, 4_095, {}, 12),
        (4_095, 900, {}, 12),  # the brightest is not among those that are looked at first
        (900, 900, {}, 10),
        (200, 200, {}, 8),
        (65_535, 4_095, {}, 16),
        (4_095, 4_095, {"bits": 16}, 16),
        (4_095, 4_095, {"storage": "encoded"}, 12),
    ],
)
def test_the_bits_that_are_used_of_16_are_spread_over_all_levels_and_told(
    most: int,
    others: int,
    settings: dict[str, Any],
    bits: int,
    project: Project,
    looks_at_few: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bright = grey(99, most, np.uint16)
    dataset = project.run(pictures(last=bright, most=others, kind=np.uint16), **settings)
    scaled = np.round(bright * (255 / (2**bits - 1)))
    assert (all_pixels(dataset) == scaled).all(axis=(1, 2, 3)).sum() == 1
    told = capsys.readouterr().err
    assert "files have 16 bits" in told
    assert f"; {bits} bits are read" in told or f"uses {most.bit_length()} bits; beginning again" in told


def test_a_file_that_uses_more_bits_than_are_set_is_refused(project: Project) -> None:
    with pytest.raises(DataError, match=r"pixels are up to 4095, expected 1023 at most \(prepare.bits: 10\)"):
        project.run(pictures(most=4_095, kind=np.uint16), bits=10)


def test_16_bits_are_read_as_before_where_all_are_used() -> None:
    pixels = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode(png(pixels), 1)[0], (pixels.astype(np.int64) + 128) // 257)


@pytest.mark.parametrize(
    ("levels", "remark"),
    [([0, 255], ""), ([3, 64], ""), ([0, 1], "only 1 of 8 bits"), ([0, 15], "only 4 of 8 bits"), ([7], "every pixel")],
)
def test_nearly_black_images_are_told(levels: list[int], remark: str) -> None:
    counts = np.zeros((1, 256), np.int64)
    counts[0, levels] = 5
    line = values_line(counts)
    assert line.startswith(f"values: {levels[0]} to {levels[-1]} ")
    assert remark in line
    assert ("check" in line) == bool(remark)


CONTRADICTING = {**pictures(), "bee/same.png": grey(3), "bee/also.png": grey(3)}  # ant/3.png, too


def test_one_picture_in_two_classes_is_told_and_listed(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = project.run(CONTRADICTING)
    assert sum(dataset.manifest.num_samples.values()) == 22
    told = capsys.readouterr().err
    assert "3 images (1 distinct) have contradicting labels and were kept" in told
    names, *rows = [line.split("\t") for line in (project.folder / "data/contradictions.tsv").read_text().splitlines()]
    assert names == ["sample_id", "class", "key"]
    assert [row[1:] for row in rows] == [["ant", "ant/3.png"], ["bee", "bee/also.png"], ["bee", "bee/same.png"]]


def test_contradicting_pictures_are_dropped_all_of_them_as_if_they_had_never_been_there(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dropped = project.run(CONTRADICTING, contradicting="drop")
    assert "were left out" in capsys.readouterr().err
    other = Project(tmp_path / "other")
    clean = other.run({name: pixels for name, pixels in pictures().items() if name != "ant/3.png"})
    assert dropped.manifest == clean.manifest
    assert files_of(project.folder / "data").keys() - files_of(other.folder / "data").keys() == {"contradictions.tsv"}
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(dropped.split(split).inputs, clean.split(split).inputs)


def test_contradicting_pictures_are_refused_with_a_list_and_corrected_ones_are_taken(project: Project) -> None:
    with pytest.raises(DataError) as refused:
        project.run(CONTRADICTING, contradicting="refuse")
    for part in ("ant/3.png", "bee/also.png", "3 images like these", "prepare.contradictions.tsv", "drop or keep"):
        assert part in str(refused.value)
    for name in ("also", "same"):
        (project.folder / f"images/bee/{name}.png").unlink()
    assert sum(project.run(contradicting="refuse").manifest.num_samples.values()) == 20


def test_equal_pictures_of_one_class_or_without_a_class_contradict_nobody(project: Project) -> None:
    project.run({**pictures(), "ant/same.png": grey(3), "_unlabelled/same.png": grey(3)}, contradicting="refuse")
    assert not (project.folder / "data/contradictions.tsv").exists()


# The doctor reports the same lines, of the same files.


class Doctor:
    """The doctor of a project, and what it printed last."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        self.project, self._capsys = project, capsys

    def ask(self, **settings: Any) -> list[str]:
        params = small_params()
        params["prepare"] |= {"source": {"kind": "folder", "path": str(self.project.folder / "images")}}
        params["prepare"] |= {"val_fraction": 0.2, "test_fraction": 0.2} | settings
        write_params(self.project.folder, params)
        self._capsys.readouterr()
        folder = self.project.folder
        places = Folders(folder / "raw", folder / "data", folder / "teacher", folder / "labels", folder / "work")
        check_up(folder / "params.yaml", places, Findings(), quick=True)
        return self._capsys.readouterr().out.splitlines()


@pytest.fixture
def doctor(project: Project, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(project, capsys)


def test_the_doctor_prints_the_lines_of_the_stage(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.project.put(pictures(first=colour(1)))
    (doctor.project.folder / "images/ant/notes.txt").touch()
    lines = [line[9:] for line in doctor.ask()]
    doctor.project.run()
    told = [line.removeprefix("prepare: ") for line in capsys.readouterr().err.splitlines()]
    assert len(told) < 15
    for line in told[:6]:
        assert line in lines
    assert {line.split(":")[0] for line in told[:6]} == {
        "class 0 'ant'",
        "class 1 'bee'",
        "splits",
        "files",
        "colour",
        "sizes",
    }


def test_the_doctor_looks_at_the_source_where_it_has_changed_since(doctor: Doctor) -> None:
    doctor.project.run(CONTRADICTING)
    lines = doctor.ask()
    assert any("prepared as the settings say" in line for line in lines)
    assert any("contradicting labels and were kept" in line for line in lines)
    doctor.project.put({"ant/new.png": grey(77)})
    for settings, reason in (
        ({}, "source has changed since"),
        ({"val_fraction": 0.3}, "val_fraction was 0.2, and is 0.3"),
    ):
        lines = doctor.ask(**settings)
        assert any(reason in line for line in lines), lines
        assert "ok       class 0 'ant': 11 train" in lines


def test_images_that_the_doctor_looked_at_are_counted_once(doctor: Doctor) -> None:
    doctor.project.put(pictures())
    for name in ("ant/2.png", "bee/5.png"):
        (doctor.project.folder / "images" / name).write_bytes(b"none")
    assert any("2 of the 20 images that were looked at are broken" in line for line in doctor.ask())


@pytest.mark.parametrize("librarys", [False, True], ids=["the system's error", "a library's own"])
def test_a_full_disk_for_temporary_files_is_named_and_the_rest_is_looked_at(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, librarys: bool
) -> None:
    def full(*arguments: object, **keywords: object) -> None:
        if librarys:
            raise RuntimeError("writing failed")
        raise OSError(errno.ENOSPC, "No space left on device")

    doctor.project.put(pictures())
    monkeypatch.setattr(trials, "write_split", full)
    monkeypatch.setattr(StoreWriter, "write", full)
    monkeypatch.setattr(temporary, "_free_bytes", lambda _: 0 if librarys else 10**12)
    lines = doctor.ask()
    assert not any(line.startswith("error") and "space" in line for line in lines)
    assert sum("(TMPDIR): No space left on device; set TMPDIR" in line for line in lines) == 1
    assert any(line.startswith("ok       disk: data/prepare") for line in lines)


def test_preparing_is_timed_by_the_clock_of_an_idle_machine(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.Clock, "read", lambda _: 0.0)
    doctor.project.put(pictures())
    doctor.ask()
    settings = load_section(Prepare, "prepare", doctor.project.folder / "params.yaml")
    assert SourceLook(build_source(settings.source, "here"), doctor.project.folder, settings).look().seconds == 0.0
