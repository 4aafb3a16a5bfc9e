"""The stage and the doctor print what was understood of the images, from one function."""

from pathlib import Path

import pytest
from image_files import make_samples, write_folder

from pipeline.preparation.listing import Listing, list_images
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.notes import Notes
from pipeline.preparation.understood import Understood


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
