"""Texts in small, from a table to students: a teacher and a student with different tokenizers, a
view that both see, and labels that others refuse.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import small_params, student, write_params
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline.core.errors import PipelineError
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.saved import read_model
from stages import dump_labels, prepare, train_student, train_teacher, verify_labels

OWN = {"sea": "boat fish wave", "wood": "tree leaf moss", "hill": "peak rock snow"}
OTHERS = "the a of is and on"
VIEWS = [
    {"kind": "window_words", "words": 9},
    {"kind": "drop_words", "share": 0.1},
    {"kind": "mask_words", "share": 0.1},
    {"kind": "swap_words", "share": 0.3},
]


def write_texts(path: Path, count: int = 360) -> Path:
    """Writes texts whose class is told by one or two of their words."""
    rng = np.random.default_rng(0)
    lines = ["label\ttext"]
    for number in range(count):
        label = list(OWN)[number % 3]
        words = [*rng.choice(OTHERS.split(), rng.integers(3, 9)), f"w{number}", *rng.choice(OWN[label].split(), 2)]
        rng.shuffle(words)
        lines.append(f"{label}\t{' '.join(words)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def text_params(folder: Path) -> dict[str, Any]:
    params = small_params()
    source = {"kind": "text_table", "path": str(write_texts(folder / "texts.tsv"))}
    params["prepare"] = {
        "source": source,
        "text": {"max_words": 12, "tokenizer": "bpe", "vocabulary": 300},
        "val_fraction": 0.15,
        "test_fraction": 0.15,
        "seed": 0,
    }
    fit = params["train_teacher"]["fit"] | {
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.01,
        "checkpoint_seconds": 1e6,
    }
    views = {"seed": 1, "plain_first": False, "operations": VIEWS[:2]}
    network = {"model": "textconv_small", "model_settings": {"width": 16, "depth": 1}, "input": {"max_tokens": 40}}
    params["train_teacher"] |= network | {"views": views, "fit": fit}
    params["dump_labels"] |= {"views": {"seed": 2, "plain_first": True, "operations": VIEWS}, "block_samples": 64}
    known = ["[UNK]", *OTHERS.split(), *" ".join(OWN.values()).split()]
    own = Tokenizer(models.WordLevel({word: at for at, word in enumerate(known)}, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own.save(str(folder / "own.json"))
    bag = {"model": "bag_small", "model_settings": {"width": 8}, "input": {"tokenizer": str(folder / "own.json")}}
    small = student(**bag, fit=fit | {"learning_rate": 0.05})
    params["students"] = {
        "small": small,
        "small_hard": small | {"labels": "none", "twin_of": "small", "hard_weight": 1.0, "soft_weight": 0.0},
    }
    return params


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder after the stages up to students."""
    folder = tmp_path_factory.mktemp("whole")
    params = text_params(folder)
    path, data, work = write_params(folder, params), folder / "data", folder / "work"
    prepare.main(path, folder / "raw", data / "prepare", work)
    train_teacher.main(path, data / "prepare", data / "train_teacher", folder / "reports", work)
    dump_labels.main(path, data / "prepare", data / "train_teacher", data / "dump_labels", work)
    verified = folder / "reports/verify_labels.json"
    verify_labels.main(path, data / "prepare", data / "train_teacher", data / "dump_labels", verified)
    for name in params["students"]:
        _train(name, path, folder)
    return folder


def _train(name: str, path: Path, folder: Path, prepared: Path | None = None) -> None:
    data = folder / "data"
    given = prepared or data / "prepare"
    reports, work = folder / "reports/train_student", folder / "work"
    train_student.main(name, path, given, str(data / "dump_labels"), data / "train_student", reports, work)


def test_students_learn_with_their_own_tokenizer(whole: Path) -> None:
    split = ImageDataset(whole / "data/prepare").split("test")
    for name in ("train_teacher", "train_student/small", "train_student/small_hard"):
        model = read_model(whole / "data" / name, made_by=name)
        right = model(split.inputs).argmax(dim=1) == split.hard_labels
        assert right.float().mean() > 0.8, name  # chance is a third
    tokens = {
        name: read_model(whole / "data" / name, made_by=name).network[0].table.num_embeddings
        for name in ("train_teacher", "train_student/small")
    }
    assert tokens["train_student/small"] < 30 < tokens["train_teacher"]


def test_labels_are_those_of_the_views(whole: Path) -> None:
    verified = json.loads((whole / "reports/verify_labels.json").read_text())
    assert not any(store["faults"] for store in verified["stores"].values())
    assert StoreReader(whole / "data/dump_labels/dense8.zarr").manifest.num_views == 2


def test_a_student_is_refused_where_texts_have_changed(whole: Path, tmp_path: Path) -> None:
    params = text_params(tmp_path)
    rows = (tmp_path / "texts.tsv").read_text().splitlines()
    rows[5] += " and more"
    (tmp_path / "texts.tsv").write_text("\n".join(rows) + "\n")
    path = write_params(tmp_path, params)
    prepare.main(path, tmp_path / "raw", tmp_path / "prepare", tmp_path / "work")
    shutil.copytree(whole / "data/dump_labels", tmp_path / "data/dump_labels")
    with pytest.raises(PipelineError, match="dense8") as caught:
        _train("small", path, tmp_path, tmp_path / "prepare")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"model": "convnet_small", "model_settings": {"width": 4, "depth": 1}},
            "is for images, and the data is texts",
        ),
        ({"input": {"tokenizer": "nowhere.json"}}, r"input\.tokenizer: nowhere\.json: no such file"),
        ({"input": {"size_px": 8}}, r"input\.size_px: given, and the data is texts"),
    ],
    ids=["network", "tokenizer", "size"],
)
def test_a_student_that_does_not_fit_is_a_line(whole: Path, tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    params = text_params(tmp_path)
    params["students"] = {"x": params["students"]["small"] | changes}
    path, data = write_params(tmp_path, params), whole / "data"
    with pytest.raises(PipelineError, match=line) as caught:
        train_student.main("x", path, data / "prepare", str(data / "dump_labels"), tmp_path, tmp_path, tmp_path)
    assert "\n" not in str(caught.value)
