"""The report of classes at positions: mean IoU in words and tables, images beside their maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixture import exported, write_reports

from pipeline.core.files import read_json, write_bytes, write_json
from pipeline.data.decoding import to_png
from pipeline.report.content import Content, read_content
from pipeline.report.figures import charts
from pipeline.report.page import render_page
from pipeline.report.summary import markdown, terminal

ROW: dict[str, Any] = {"id": "00000000000000ff", "split": "test", "index": 3, "kinds": ["best"], "image": 0, "mask": 1}


def write_grid_reports(folder: Path, **options: Any) -> None:
    """Writes the files of `write_reports` as they would be of classes at positions."""
    write_reports(folder, **options)
    reports = folder / "reports"
    evaluation = read_json(reports / "evaluate.json", made_by="")
    classes = len(evaluation["class_names"])
    evaluation |= {"signal": "grid", "class_positions": [100] * (classes - 1) + [0]}
    for name, row in evaluation["models"].items():
        row |= {"headline": row["accuracy"] - 0.1, "class_iou": [*[0.5] * (classes - 1), None]}
        row |= {"headline_best": row["headline"]} if name != "teacher" else {}
        for key in ("brier", "top5_accuracy"):
            row.pop(key, None)
        path = reports / ("train_teacher.tsv" if name == "teacher" else f"train_student/{name}.tsv")
        write_bytes(path, path.read_bytes().replace(b"val_accuracy", b"val_miou"))
    for compared in evaluation["comparisons"]:
        for side, name in (("headline", compared["student"]), ("twin_headline", compared["twins"][0])):
            compared[side] = {"mean": evaluation["models"][name]["headline"], "sd": None}
    write_json(reports / "evaluate.json", evaluation)
    for path in (reports / "export").glob("*.json"):
        export = read_json(path, made_by="")
        for facts in (export["torch"], *export["files"].values()):
            facts["headline"] = facts["accuracy"] - 0.1
        write_json(path, export)


def write_map_samples(folder: Path, num_suspects: int = 0, names: tuple[str, ...] = ("teacher", "small")) -> None:
    """Writes what `explain` writes of classes at positions: two images with their maps."""
    count = 2 + len(names)
    write_bytes(folder / "data/explain/tiles.png", to_png(np.zeros((3, 16, 32 * 16), np.uint8)))
    rows = [
        ROW | {"maps": {name: 2 + n for n, name in enumerate(names)}, "iou": dict.fromkeys(names, 0.625)},
        ROW | {"split": "train", "kinds": ["probably mislabelled"], "suspicion": 0.4, "image": 31},
    ]
    rows[1]["maps"] = dict.fromkeys(names, count)
    content = {"class_names": ["ground", "<b>"], "networks": list(names), "tile_px": [16, 16], "columns": 32}
    content |= {"tiles_sheet": "tiles.png", "maps_sheet": None, "colours": ["#000000", "#800000"]}
    write_json(folder / "data/explain/samples.json", content | {"unknown": "#e0e0c0", "samples": rows})
    found = {"num_suspects": num_suspects, "num_checked": 40, "why_none": None, "pairs": [], "method": None}
    found |= {"num_maps": 0, "map_agreement": {}, "map_agreement_by_chance": {}, "checked": "maps of training images"}
    write_json(folder / "reports/explain.json", found)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    folder = tmp_path_factory.mktemp("report")
    write_grid_reports(folder, explained=False)
    write_map_samples(folder)
    return read_content(folder / "reports", folder / "data/explain", exported(folder))


def test_words_and_tables_are_of_mean_iou(content: Content) -> None:
    text = markdown(content, list(charts(content)))
    assert f"mean IoU {content.networks['tiny'].score:.2%} against" in text
    assert "Mean IoU on the first" in text
    assert "mIoU" in terminal(content)
    name = content.class_names[0]
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    share = 100 / (100 * (len(content.class_names) - 1))
    assert f"{share:.2%}" in line
    assert "50.00%" in line


def test_an_image_stands_beside_its_maps_and_classes_have_their_colours(content: Content) -> None:
    page = render_page(content, [])
    for part in (
        "Of 40 maps of training images, none is contradicted",
        '<i style="background:#800000"></i>&lt;b&gt;',
        "nothing is known",
        'aria-label="map of small" style="background-position:-288px -0px"',  # tile 3, 96 px wide
        "62.5%",
        "40% of the map contradicted",
        "background-size: 3072px auto",
    ):
        assert part in page, part
    assert '"browser":null' in page


def test_suspects_are_counted(tmp_path: Path) -> None:
    write_grid_reports(tmp_path, explained=False)
    write_map_samples(tmp_path, num_suspects=3)
    page = render_page(read_content(tmp_path / "reports", tmp_path / "data/explain", exported(tmp_path)), [])
    assert "Of 40 maps of training images, 3 are probably wrong" in page
