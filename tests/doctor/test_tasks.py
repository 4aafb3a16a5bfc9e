"""Projects of independent classes: the task of a new one, the settings that fit it, its
check-up.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_tagged_split
from PIL import Image
from project import write_params
from tagged import NAMES, linked_copy, tagged_params

from pipeline.core.closure import TOP
from pipeline.core.config import edit_entry, load_params
from pipeline.core.errors import ConfigError
from pipeline.doctor.announcement import announce
from pipeline.doctor.checkup import check_up
from pipeline.doctor.findings import Findings
from pipeline.doctor.fitting import fit_project
from pipeline.doctor.folders import Folders
from pipeline.doctor.new_project import Wanted, create_project
from pipeline.doctor.tasks import row_for_task
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.mask import Mask

MIXUP = {"kind": "mixup", "alpha": 0.2, "probability": 0.5}
ODDS = {"kind": "log_odds_uint8", "range_nats": 16.0, "steps": 127}


def write_masks(folder: Path, count: int = 60, size: tuple[int, int] = (20, 36)) -> None:
    """Writes images whose brightness follows the classes of their masks."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        classes = np.kron(random.integers(0, 3, (size[0] // 4, size[1] // 4)), np.ones((4, 4))).astype(np.uint8)
        levels = classes * 60 + random.integers(0, 60, size, dtype=np.uint8)
        Image.fromarray(classes).save(folder / f"masks/{number}.png")
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"images/{number}.png")
    (folder / "classes.txt").write_text("sky\nroad\ncar\n")


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Returns rows of `prepare.source` by name, whose images are there."""
    split = make_tagged_split(300)
    images = split.inputs[:, 0].numpy()
    np.savez(tmp_path / "sets.npz", train_images=images, train_labels=split.hard_labels.numpy())
    np.savez(tmp_path / "one.npz", train_images=images, train_labels=split.hard_labels[:, 0].numpy().astype(np.int64))
    (tmp_path / "list.csv").write_text("path,label\na.png,cat|dog\nb.png,cat\nc.png,dog\n")
    (tmp_path / "folder").mkdir()
    write_masks(tmp_path / "streets")
    (tmp_path / "streets/list.csv").write_text("path,mask_file\nimages/0.png,masks/0.png\nimages/1.png,\n")
    return {
        "sets": {"kind": "arrays", "path": str(tmp_path / "sets.npz"), "classes": list(NAMES)},
        "one": {"kind": "arrays", "path": str(tmp_path / "one.npz")},
        "list": {"kind": "manifest", "path": str(tmp_path / "list.csv")},
        "folder": {"kind": "folder", "path": str(tmp_path / "folder")},
        "masks": {"kind": "masks", "path": str(tmp_path / "streets")},
        "scenes": {"kind": "fashion_scenes"},
        "table": {"kind": "manifest", "path": str(tmp_path / "streets/list.csv")},
        "later": {"kind": "manifest", "path": str(tmp_path / "later.csv")},
    }


@pytest.mark.parametrize(
    ("source", "task", "more"),
    [
        ("sets", None, {}),
        ("sets", "multilabel", {}),
        ("one", "classification", {}),
        ("list", "multilabel", {"separator": "|"}),
        ("later", "multilabel", {"separator": "|"}),
        ("folder", "classification", {}),
        ("masks", "segmentation", {}),
        ("masks", None, {}),
        ("scenes", "segmentation", {"labels": "masks"}),
        ("later", "segmentation", {"mask_column": "mask", "classes": "{folder}/classes.txt"}),
        ("table", "segmentation", {"mask_column": "mask_file", "classes": "{folder}/streets/classes.txt"}),
        ("scenes", "multilabel", {}),
        ("folder", "embedding", {}),
        ("sets", "embedding", {}),
    ],
)
def test_a_task_that_fits_the_labels(
    sources: dict[str, dict[str, Any]], source: str, task: str | None, more: dict[str, str], tmp_path: Path
) -> None:
    more = {name: value.format(folder=tmp_path) for name, value in more.items()}
    assert row_for_task(sources[source], task) == sources[source] | more


def test_a_table_of_masks_is_read_with_the_classes_beside_it(sources: dict[str, dict[str, Any]]) -> None:
    source = build_source(row_for_task(sources["table"], "segmentation"), "source")
    assert source.class_names(Path()) == ("sky", "road", "car")
    masks = [image.label for image in source.images(Path())]
    assert all(isinstance(mask, Mask) and str(mask.content).endswith("/masks/0.png") for mask in masks[:1])
    assert masks[1:] == [None]


@pytest.mark.parametrize("columns", ["path,label", "path,mask_a,mask_b"])
def test_a_table_without_one_column_of_masks_is_one_line(columns: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"{columns}\n")
    row = {"kind": "manifest", "path": str(tmp_path / "list.csv")}
    expected = (
        rf"list\.csv: the columns {columns.replace(',', ', ')}; expected a column mask, with the path of each image"
    )
    with pytest.raises(ConfigError, match=expected):
        row_for_task(row, "segmentation")


@pytest.mark.parametrize(
    ("source", "task", "told"),
    [
        ("sets", "classification", r"classification, and labels of this source \(arrays\) are sets of classes; "),
        (
            "folder",
            "multilabel",
            r"multilabel, and labels of this source \(folder\) are one class of several; .*SOURCE=",
        ),
        ("folder", "segmentation", r"segmentation, .*\(folder\) are one class of several; expected .* masks; .*masks"),
        ("masks", "multilabel", r"multilabel, and labels of this source \(masks\) are masks"),
        ("one", "multilabel", r"multilabel, .*\(arrays\) are one class of several"),
        ("sets", "multilabl", "'multilabl'; .*did you mean 'multilabel'"),
    ],
)
def test_a_task_that_contradicts_the_labels_is_one_line(
    sources: dict[str, dict[str, Any]], source: str, task: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^TASK \(--task\): {told}") as caught:
        row_for_task(sources[source], task)
    assert len(str(caught.value)) <= 500
    assert "\n" not in str(caught.value)


def check_settings(params: dict[str, Any]) -> None:
    """Checks that labels are kept as log-odds, and that students learn from these."""
    assert params["encodings"]["odds"] == ODDS
    assert {row["kind"] for row in params["encodings"].values()} == {"dense_float16", "log_odds_uint8", "none"}
    rows = [params["students_defaults"] | row for row in params["students"].values()]
    assert {row["loss"]["kind"] for row in rows} == {"binary_kd"}
    assert {row["labels"] for row in rows} <= set(params["encodings"])
    assert all(row["labels"] == "odds" for row in rows if row["soft_weight"])


def test_a_new_project_is_fitted_to_independent_classes_and_passes_its_check_up(
    sources: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    shutil.copy(TOP / "params.yaml", path)
    shutil.copy(TOP / "dvc.yaml", tmp_path)
    edit_entry(path, "prepare.source", lambda _: sources["sets"])
    fitted = fit_project(path, tmp_path / "raw", 10_000.0)
    lines = [choice.line for choice in fitted.choices]
    assert any(line.startswith("labels: store odds, a byte for each class; no store dense8") for line in lines)
    assert "students: the loss binary_kd, because an image is of any number of classes" in lines
    params = load_params(path)
    check_settings(params)
    findings = Findings()
    capsys.readouterr()
    check_up(path, Folders(*(tmp_path / name for name in ("raw", "prepare", "teacher", "labels", "work"))), findings)
    out = capsys.readouterr().out
    assert findings.counts["error"] == 0, out
    assert "4 independent classes" in out
    assert "disk: store odds" in out


def test_a_new_project_is_fitted_to_masks_and_passes_its_check_up(
    sources: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    shutil.copy(TOP / "params.yaml", path)
    shutil.copy(TOP / "dvc.yaml", tmp_path)
    edit_entry(path, "prepare.source", lambda _: sources["masks"])
    edit_entry(path, "students", lambda rows: {name: rows[name] for name in ("tiny", "tiny_hard")})
    edit_entry(path, "exports", lambda _: ["tiny"])
    fit_project(path, tmp_path / "raw", 10_000.0)
    params = load_params(path)
    assert params["prepare"]["image_px"] == [24, 40]  # from 20 x 36: sides that networks halve three times
    assert {params["train_teacher"]["model"], *(row["model"] for row in params["students"].values())} == {"unet_small"}
    assert {*params["encodings"]} == {"cells", "none"}
    assert {row["labels"] for row in params["students"].values()} == {"cells", "none"}
    findings = Findings()
    capsys.readouterr()
    check_up(path, Folders(*(tmp_path / name for name in ("raw", "prepare", "teacher", "labels", "work"))), findings)
    out = capsys.readouterr().out
    assert findings.counts["error"] == 0, out
    assert "labels: masks, a class for each pixel; of 60 images with a mask, every pixel is known" in out
    assert "disk: store cells" in out
    assert "have less than" not in out  # classes are of pixels: no images were counted
    # Blended views have no map, which is found before anything is trained.
    for section in ("train_teacher", "dump_labels"):
        edit_entry(path, f"{section}.views.operations", lambda rows: [*rows, MIXUP])
    findings = Findings()
    check_up(path, Folders(*(tmp_path / name for name in ("raw", "prepare", "teacher", "labels", "work"))), findings)
    errors = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error")]
    for place in ("train_teacher.views", "students.tiny.hard_weight", "students.tiny_hard.hard_weight"):
        assert sum(f"{place}: views with mixup" in line for line in errors) == 1, errors


def test_a_new_project_whose_images_come_later_has_the_settings_of_its_task(
    sources: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    target = tmp_path / "new"
    path = sources["later"]["path"]
    created = create_project(target, Wanted(path, "manifest", later=True, task="multilabel"), 30.0)
    assert created.row["separator"] == "|"
    check_settings(load_params(target / "params.yaml"))


@pytest.mark.parametrize(("source", "kind"), [("fashion_mnist", "dense_uint8"), ("sets", "log_odds_uint8")])
def test_students_of_the_task_embedding_learn_from_embeddings_beside_labels_of_any_kind(
    sources: dict[str, dict[str, Any]], tmp_path: Path, source: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.doctor.new_project.fit_project", lambda *_: "not measured here")
    row = sources.get(source, {"kind": source})
    created = create_project(tmp_path / "new", Wanted(row.get("path"), row["kind"], task="embedding"), 30.0)
    (line,) = [line for line in announce(created) if "embedding" in line]
    assert "store embedding, the teacher's embedding, a byte for each dimension; tiny, small, medium learn" in line
    params = load_params(tmp_path / "new/params.yaml")
    assert params["encodings"]["embedding"] == {"kind": "vector_int8"}
    rows = {name: params["students_defaults"] | row for name, row in params["students"].items()}
    taught = [row for row in rows.values() if row["features"] == "embedding"]
    assert [row["soft_weight"] == 0 for row in rows.values() if row["features"] is None] == [True] * 3
    assert {params["encodings"][row["labels"]]["kind"] for row in taught} == {kind}


def doctor(folder: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str], *, quick: bool) -> list[str]:
    """Returns the errors of a check-up; without any, all lines."""
    at, findings = folder / "data", Findings()
    places = Folders(folder / "raw", at / "prepare", at / "train_teacher", at / "dump_labels", folder / "work")
    check_up(write_params(folder, params), places, findings, quick=quick)
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("error")] or lines


def test_the_check_up_measures_networks_labels_and_classes(
    tagged_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = linked_copy(tagged_project, tmp_path / "project")
    monkeypatch.chdir(folder)
    shutil.copy(TOP / "dvc.yaml", folder)
    params = tagged_params()
    params["prepare"]["source"] = {"kind": "digits"}
    params["encodings"]["small"] = {"kind": "auto", "bytes": 4.0}
    monkeypatch.setattr("pipeline.doctor.checkup.change", lambda *_: "")
    text = "\n".join(doctor(folder, params, capsys, quick=False))
    for part in (
        "4 independent classes",
        "disk: store odds: about",
        "measured on the present teacher's",
        "encodings: small: ",
        "students.small: convnet_small",
        "train_teacher: convnet_small",
    ):
        assert part in text, text


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            {"loss": {"kind": "kd", "standardize": False}},
            "students.small.loss.kind: 'kd', which learns from categorical",
        ),
        ({"labels": "dense8"}, "encodings.dense8.kind: 'dense_uint8', which holds labels of the signal categorical"),
    ],
)
def test_what_fits_one_class_of_several_alone_is_one_line(
    tagged_project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    edit: dict[str, Any],
    told: str,
) -> None:
    folder = linked_copy(tagged_project, tmp_path / "project")
    monkeypatch.chdir(folder)
    shutil.copy(TOP / "dvc.yaml", folder)
    monkeypatch.setattr("pipeline.doctor.checkup.change", lambda *_: "")
    params = tagged_params()
    params["encodings"]["dense8"] = {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255}
    params["students"]["small"] |= edit
    errors = doctor(folder, params, capsys, quick=True)
    assert any(told in line for line in errors), errors
    assert all(line.startswith("error") and len(line) <= 500 for line in errors)
