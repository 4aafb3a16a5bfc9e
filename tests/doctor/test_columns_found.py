"""A new project finds the source and the columns of its data by their names."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.doctor.columns import columns_line, with_columns
from pipeline.doctor.inputs import source_for


def table(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("kind", "text", "task", "found"),
    [
        ("manifest", "path,label\na,x\n", None, {}),
        ("manifest", "label,path,image\n", None, {}),
        ("manifest", "Image Path,Breed Name\n", None, {"image_column": "Image Path", "label_column": "Breed Name"}),
        ("manifest", "file_name,kind,split\n", None, {"image_column": "file_name", "label_column": "kind"}),
        ("manifest", "img,age,place\n", None, {"image_column": "img"}),
        ("manifest", "image,mask\n", "segmentation", {"image_column": "image"}),
        ("sound_manifest", "audio,class\n", None, {"sound_column": "audio", "label_column": "class"}),
        ("text_table", "review,stars\n", None, {"text_column": "review", "label_column": "stars"}),
        ("rows", "age,town,target\n", None, {"label_column": "target"}),
        ("rows", "age,clicked\n", None, {}),
        (
            "manifest",
            "file,age,nodule,mass,hernia\na,1,0,1,\nb,50,1,0,-1\n",
            "multilabel",
            {"image_column": "file", "label_columns": ["nodule", "mass", "hernia"]},
        ),
        ("manifest", "file,age,nodule,mass\na,1,0,1\nb,50,1,0\n", None, {"image_column": "file"}),
        ("folder", "path,label\n", None, {}),
    ],
)
def test_columns_are_found_by_their_names(
    kind: str, text: str, task: str | None, found: dict[str, Any], tmp_path: Path
) -> None:
    row = {"kind": kind, "path": str(table(tmp_path, text))}
    assert with_columns(row, task) == row | found
    assert "".join(columns_line(row | found, row)).count("_column") == len(found)


def test_a_table_that_is_not_there_or_can_not_be_read_is_left_as_it_is(tmp_path: Path) -> None:
    for path in (tmp_path / "later.csv", table(tmp_path, "\0")):
        row = {"kind": "manifest", "path": str(path)}
        assert with_columns(row, None) == row


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("list.csv", "manifest"),
        ("list.TSV.gz", "manifest"),
        ("a.parquet", "parquet"),
        ("a.npz", "arrays"),
        ("train-{0000..0009}.tar", "webdataset"),
        ("pets", "folder"),
        ("old.csv", "folder"),
        ("streets", "masks"),
    ],
)
def test_the_source_of_images_follows_from_what_is_there(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "old.csv").mkdir()
    for each in ("images", "masks"):
        (tmp_path / "streets" / each).mkdir(parents=True)
    assert source_for("image", None, str(tmp_path / name)) == kind
