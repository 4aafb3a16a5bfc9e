"""Everything that a user may get wrong ends in one line that names it: no traceback, no half
result, a status of 1.
"""

import importlib
import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import idx, image_file, make_samples, write_folder, write_tar
from project import edit_sealed, files_of, small_params, student, write_params
from safetensors.torch import save_file

import pipeline.core.files
import pipeline.core.scratch
from pipeline.core.command import run_stage
from pipeline.models import ClassifierSpec

Spoil = Callable[[dict[str, Any]], object]
CLASSES = ("ant", "bee", "cat")
OUTPUTS = ("data/prepare", "data/train_teacher", "data/dump_labels", "data/train_student", "reports")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Reads no code for a scratch folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.core.scratch, "code_fingerprint", lambda script: "code")
        yield


def base_params() -> dict[str, Any]:
    params = small_params()
    params["prepare"]["source"] = {"kind": "folder", "path": "images"}
    params["train_teacher"]["fit"] |= {"epochs": 1, "batch_size": 16, "checkpoint_seconds": 60.0}
    params["dump_labels"] |= {"block_samples": 16, "num_canaries": 8}
    params["encodings"]["top2"]["tail"] = "rest"
    for row in params["students"].values():
        row["fit"] = row["fit"] | {"epochs": 1, "batch_size": 16, "checkpoint_seconds": 60.0}
    return params


def run(stage: str, *arguments: str) -> int:
    """Returns runs a stage's command; returns its status."""
    main = importlib.import_module(f"stages.{stage}").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [stage, *arguments])
        with pytest.raises(SystemExit) as stop:
            run_stage(main)
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a project of a few small images, its teacher and its stores."""
    folder = tmp_path_factory.mktemp("finished")
    write_folder(folder / "images", make_samples(CLASSES, each=12))
    write_params(folder, base_params())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("prepare", "train_teacher", "dump_labels"):
            assert run(stage) == 0
    shutil.rmtree(folder / "work", ignore_errors=True)
    return folder


class Case(NamedTuple):
    """A stage, what is spoilt before it is run (in the project's folder), and what its line must
    name.
    """

    stage: str
    spoil: Spoil
    parts: tuple[str, ...]
    arguments: tuple[str, ...] = ()


def section(name: str, **changes: Any) -> Spoil:
    """Changes keys of a section or row."""

    def spoil(params: dict[str, Any]) -> None:
        node = params
        for key in name.split("."):
            node = node[key]
        node.update(changes)

    return spoil


def source(write: Callable[[], object], **row: Any) -> Spoil:
    """Makes some files, and a source of them."""

    def spoil(params: dict[str, Any]) -> None:
        write()
        params["prepare"]["source"] = row

    return spoil


def files(write: Callable[[], object]) -> Spoil:
    """Does something to files alone."""
    return lambda params: write()


def put(name: str, content: bytes | str = b"") -> Callable[[], object]:
    def write() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def both(*steps: Callable[[], object]) -> Callable[[], object]:
    return lambda: [step() for step in steps]


def cut(name: str, share: float = 0.5) -> Callable[[], object]:
    """Cuts a file short."""

    def write() -> None:
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: int(share * len(content))])

    return write


def flip(folder: str) -> Callable[[], object]:
    """Flips a bit in the largest file below a folder."""

    def write() -> None:
        path = max(
            (p for p in Path(folder).rglob("*") if p.is_file() and p.suffix != ".json"),
            key=lambda p: (p.stat().st_size, str(p)),
        )
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(content)

    return write


def move(old: str, new: str) -> Callable[[], object]:
    return lambda: shutil.move(old, new)


def remove(name: str) -> Callable[[], object]:
    return lambda: shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()


def edit_json(name: str, **changes: Any) -> Callable[[], object]:
    return lambda: Path(name).write_text(json.dumps(json.loads(Path(name).read_text()) | changes))


def table(*lines: str, name: str = "table.csv") -> Callable[[], object]:
    return put(name, "\n".join(lines) + "\n")


def tar(name: str, *members: tuple[str, bytes]) -> Callable[[], object]:
    return lambda: write_tar(Path(name), members)


def arrays(**content: np.ndarray) -> Callable[[], object]:
    return lambda: np.savez("arrays.npz", **content)  # type: ignore[arg-type]


def weights(name: str, num_classes: int = 3, width: int = 8) -> Callable[[], object]:
    def write() -> None:
        settings = {"width": width, "depth": 1}
        model = ClassifierSpec(
            "convnet_small", settings, num_classes=num_classes, channels=3, mean=[0.5], std=[0.5]
        ).build()
        save_file({key: tensor.contiguous() for key, tensor in model.network.state_dict().items()}, name)

    return write


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("BOOM",))


def teacher(*, epochs: int | None = None, write: Callable[[], object] = lambda: None, **changes: Any) -> Spoil:
    def spoil(params: dict[str, Any]) -> None:
        write()
        params["train_teacher"].update(changes)
        if epochs is not None:
            params["train_teacher"]["fit"]["epochs"] = epochs

    return spoil


IMAGES = np.zeros((6, 5, 5), np.uint8)
LABELS = np.array([0, 1, 0, 1, 0, 1])
PARAMS = {
    "no file": Case("prepare", lambda p: p.clear(), ("params.yaml", "no entry 'prepare'")),
    "no such params": Case("prepare", lambda p: None, ("gone.yaml", "no such file"), ("--params", "gone.yaml")),
    "not YAML": Case(
        "prepare", files(put("bad.yaml", "a: [1\nb: }")), ("bad.yaml:2", "YAML"), ("--params", "bad.yaml")
    ),
    "a key twice": Case("prepare", files(put("bad.yaml", "a: 1\na: 2\n")), ("bad.yaml:2",), ("--params", "bad.yaml")),
    "a list": Case("prepare", files(put("bad.yaml", "- 1\n")), ("bad.yaml", "prepare"), ("--params", "bad.yaml")),
    "not text": Case("prepare", files(put("bad.yaml", b"\xff\xfe\x00")), ("bad.yaml",), ("--params", "bad.yaml")),
    "misspelt key": Case("prepare", section("prepare", val_fractoin=0.1), ("prepare.val_fractoin", "val_fraction")),
    "missing key": Case("prepare", lambda p: p["prepare"].pop("seed"), ("prepare.seed", "missing")),
    "text for a number": Case("prepare", section("prepare", seed="0"), ("prepare.seed", "'0'", "integer")),
    "fraction of 1": Case("prepare", section("prepare", test_fraction=1.0), ("prepare.test_fraction", "1.0")),
    "size of nothing": Case("prepare", section("prepare", image_px=[0, 4]), ("prepare.image_px.0", "0")),
    "two channels": Case("prepare", section("prepare", channels=2), ("prepare.channels", "2")),
    "longest without files": Case("prepare", section("prepare", longest_px=9), ("prepare.longest_px", "encoded")),
    "no kind": Case("prepare", section("prepare", source={"path": "x"}), ("prepare.source", "kind", "folder")),
    "unknown kind": Case("prepare", section("prepare", source={"kind": "foldr"}), ("prepare.source.kind", "'folder'")),
    "source by its old name": Case("prepare", section("prepare", source="digits"), ("prepare.source", "digits")),
    "unknown source key": Case(
        "prepare", section("prepare.source", pth="x"), ("prepare.source.pth", "did you mean 'path'")
    ),
    "not a number": Case("train_teacher", section("train_teacher.fit", learning_rate=float("nan")), ("learning_rate",)),
}
FOLDERS = {
    "no folder": Case("prepare", section("prepare.source", path="imges"), ("imges", "no such folder")),
    "no class folders": Case("prepare", source(lambda: Path("x").mkdir(), kind="folder", path="x"), ("x", "class")),
    "one class": Case("prepare", source(put("x/ant/1.png"), kind="folder", path="x"), ("x", "only one class", "'ant'")),
    "an image without class": Case("prepare", files(put("images/train/1.png")), ("images/train/1.png", "outside")),
    "an empty class": Case("prepare", files(lambda: Path("images/train/dog").mkdir()), ("images/train/dog", "without")),
    "a class in val alone": Case("prepare", files(put("images/val/dog/1.png")), ("'dog'", "'val'", "'train'")),
    "an unknown split": Case("prepare", files(move("images/test", "images/tset")), ("images", "'tset'", "'test'")),
    "a split twice": Case("prepare", files(put("images/valid/ant/1.png")), ("images", "'val'", "'valid'")),
    "unlabelled in val": Case("prepare", files(put("images/val/_unlabelled/1.png")), ("images", "unlabelled", "'val'")),
    "a cut image": Case("prepare", files(cut("images/train/ant/000.png")), ("train/ant/000.png", "broken: skip")),
    "an empty image": Case("prepare", files(put("images/train/bee/x.png")), ("train/bee/x.png", "empty")),
    "text for an image": Case("prepare", files(put("images/val/ant/x.jpg", "hello")), ("val/ant/x.jpg",)),
    "two sizes": Case(
        "prepare", files(put("images/train/ant/0.ppm", b"P6 2 3 255 " + bytes(18))), ("image_px", "3 x 2")
    ),
    "too few to hold out": Case(
        "prepare",
        source(
            both(*(put(f"x/{c}/{n}.png", image_file(n)) for c in CLASSES for n in range(3))), kind="folder", path="x"
        ),
        ("3 of 3 classes", "'ant' (3)", "prepare.test_fraction", "7 or more"),
    ),
}
PATH = ("images/train/ant/000.png", "images/train/bee/000.jpg")
TABLES = {
    "no table": Case("prepare", section("prepare", source={"kind": "manifest", "path": "t.csv"}), ("t.csv", "no such")),
    "a table of another kind": Case(
        "prepare", source(put("t.xlsx"), kind="manifest", path="t.xlsx"), ("t.xlsx", ".csv")
    ),
    "no such column": Case(
        "prepare", source(table("file,label"), kind="manifest", path="table.csv"), ("'path'", "file")
    ),
    "no rows": Case(
        "prepare", source(table("path,label"), kind="manifest", path="table.csv"), ("table.csv", "no rows")
    ),
    "a short row": Case(
        "prepare", source(table("path,label", PATH[0]), kind="manifest", path="table.csv"), ("table.csv:2", "1 fields")
    ),
    "a lost image": Case(
        "prepare",
        source(table("path,label", f"{PATH[0]},a", "gone.png,b", f"{PATH[1]},b"), kind="manifest", path="table.csv"),
        ("gone.png", "broken"),
    ),
    "an unknown label": Case(
        "prepare",
        source(table("path,label", f"{PATH[0]},atn"), kind="manifest", path="table.csv", classes=["ant", "bee"]),
        ("table.csv:2", "'atn'", "'ant'"),
    ),
    "a label out of range": Case(
        "prepare",
        source(table("path,label", f"{PATH[0]},7"), kind="manifest", path="table.csv", classes=["ant", "bee"]),
        ("table.csv:2", "7", "0 to 1"),
    ),
    "no list of classes": Case(
        "prepare",
        source(table("path,label", f"{PATH[0]},0"), kind="manifest", path="table.csv", classes="names.txt"),
        ("names.txt",),
    ),
    "not a Parquet file": Case(
        "prepare", source(put("x.parquet", "x"), kind="parquet", path="x.parquet"), ("x.parquet",)
    ),
    "Parquet without images": Case(
        "prepare",
        source(lambda: pq.write_table(pa.table({"label": [1]}), "x.parquet"), kind="parquet", path="x.parquet"),
        ("x.parquet", "image_column"),
    ),
    "a cut tar": Case(
        "prepare",
        source(
            both(tar("x.tar", ("1.png", bytes(2000)), ("1.cls", b"a")), cut("x.tar", 0.1)),
            kind="webdataset",
            path="x.tar",
        ),
        ("x.tar", "tar"),
    ),
    "a lost shard": Case(
        "prepare",
        source(tar("x-0.tar", ("1.png", b""), ("1.cls", b"a")), kind="webdataset", path="x-{0..1}.tar"),
        ("x-1.tar", "no such file"),
    ),
    "JSON without the label": Case(
        "prepare",
        source(
            tar("x.tar", ("1.png", b""), ("1.json", b"{}")),
            kind="webdataset",
            path="x.tar",
            label_extension="json",
            label_key="breed",
        ),
        ("x.tar:1", "'breed'"),
    ),
    "images without labels": Case(
        "prepare", source(arrays(train_images=IMAGES), kind="arrays", path="arrays.npz"), ("arrays.npz", "train_labels")
    ),
    "pixels that are floats": Case(
        "prepare",
        source(arrays(train_images=IMAGES / 255, train_labels=LABELS), kind="arrays", path="arrays.npz"),
        ("arrays.npz", "float64", "uint8"),
    ),
    "more images than labels": Case(
        "prepare",
        source(arrays(train_images=IMAGES, train_labels=LABELS[:4]), kind="arrays", path="arrays.npz"),
        ("6 images and 4 labels",),
    ),
    "a cut IDX file": Case(
        "prepare",
        source(
            both(
                put("x/train-images-idx3-ubyte", idx(IMAGES)[:-7]),
                put("x/train-labels-idx1-ubyte", idx(LABELS.astype("u1"))),
            ),
            kind="idx",
            path="x",
        ),
        ("x/train-images-idx3-ubyte", "bytes"),
    ),
    "a cut CIFAR batch": Case(
        "prepare",
        source(put("x/data_batch_1.bin", bytes(3000)), kind="cifar", path="x"),
        ("x/data_batch_1.bin", "3,000"),
    ),
}
TEACHERS = {
    "no data": Case("train_teacher", files(remove("data/prepare")), ("data/prepare", "prepare")),
    "a cut manifest": Case("train_teacher", files(cut("data/prepare/manifest.json")), ("data/prepare/manifest.json",)),
    "a flipped pixel": Case("train_teacher", files(flip("data/prepare/train.zarr/images")), ("train.zarr",)),
    "a lost split": Case("train_teacher", files(remove("data/prepare/val.zarr")), ("data/prepare/val.zarr",)),
    "an unknown network": Case("train_teacher", teacher(model="convnet"), ("'convnet'", "convnet_small")),
    "an unknown timm network": Case("train_teacher", teacher(model="timm/resnet19"), ("timm/resnet19", "resnet18")),
    "an unknown setting": Case("train_teacher", teacher(model_settings={"widht": 8}), ("widht", "'width'")),
    "no weights": Case("train_teacher", teacher(weights="gone.pt"), ("train_teacher.weights", "gone.pt")),
    "nothing to import": Case("train_teacher", teacher(epochs=0), ("train_teacher", "epochs: 0", "weights")),
    "a new head of nothing": Case("train_teacher", teacher(new_head=True), ("train_teacher.new_head", "weights")),
    "weights that are code": Case(
        "train_teacher", teacher(write=put("evil.pt", pickle.dumps(Evil())), weights="evil.pt"), ("evil.pt",)
    ),
    "weights that are noise": Case(
        "train_teacher", teacher(write=put("x.safetensors", "noise"), weights="x.safetensors"), ("x.safetensors",)
    ),
    "weights of another network": Case(
        "train_teacher",
        teacher(write=weights("w.safetensors", width=4), weights="w.safetensors"),
        ("w.safetensors", "[4, 3, 3, 3]", "[8, 3, 3, 3]"),
    ),
    "weights of other classes": Case(
        "train_teacher",
        teacher(write=weights("w.safetensors", 5), weights="w.safetensors"),
        ("w.safetensors", "all fits but the head", "new_head: true"),
    ),
    "a file without the function": Case(
        "train_teacher",
        teacher(write=put("net.py", "def make(): pass"), model="net.py:build", model_settings={}),
        ("net.py:build", "no function 'build'"),
    ),
    "a function that fails": Case(
        "train_teacher",
        teacher(write=put("net.py", "def build(n, c):\n    return 1 / 0"), model="net.py:build", model_settings={}),
        ("net.py:build", "line 2", "ZeroDivisionError"),
    ),
    "a file that is no Python": Case(
        "train_teacher",
        teacher(write=put("net.py", "def build(:"), model="net.py:build", model_settings={}),
        ("net.py:1", "not valid Python"),
    ),
    "a network without classes": Case(
        "train_teacher",
        teacher(
            write=put("net.py", "from torch import nn\ndef build(n, c): return nn.Flatten()"),
            model="net.py:build",
            model_settings={},
        ),
        ("net.py:build", "(1, 90)", "one logit per class"),
    ),
    "ONNX that is to be trained": Case(
        "train_teacher", teacher(model="onnx/x.onnx"), ("train_teacher.fit.epochs", "ONNX")
    ),
    "ONNX that is noise": Case(
        "train_teacher",
        teacher(epochs=0, write=put("x.onnx", "noise"), model="onnx/x.onnx", model_settings={}),
        ("onnx/x.onnx", "not an ONNX file"),
    ),
    "too few names of outputs": Case(
        "train_teacher",
        teacher(epochs=0, write=weights("w.safetensors", 3), weights="w.safetensors", teacher_classes=["ant", "bee"]),
        ("'cat'", "class_map"),
    ),
    "a map of another class": Case(
        "train_teacher",
        teacher(epochs=0, write=weights("w.safetensors"), weights="w.safetensors", class_map={"dog": [1]}),
        ("class_map.dog", "ant, bee, cat"),
    ),
    "too many means": Case("train_teacher", teacher(input={"mean": [0.5, 0.5]}), ("train_teacher.input.mean", "2")),
    "an unknown view": Case(
        "train_teacher",
        section("train_teacher.views", operations=[{"kind": "flip"}]),
        ("train_teacher.views.operations.0", "flip_horizontal"),
    ),
    "a learning rate that explodes": Case(
        "train_teacher",
        section("train_teacher.fit", learning_rate=1e6, weight_decay=1e6),
        ("train_teacher", "learning_rate"),
    ),
}
LABELS_OF = {
    "no teacher": Case("dump_labels", files(remove("data/train_teacher")), ("data/train_teacher",)),
    "a cut teacher": Case(
        "dump_labels", files(cut("data/train_teacher/weights.safetensors")), ("data/train_teacher/weights.safetensors",)
    ),
    "a teacher of other classes": Case(
        "dump_labels",
        files(
            lambda: edit_sealed(Path("data/train_teacher/meta.json"), lambda c: c | {"class_names": ["x", "y", "z"]})
        ),
        ("data/train_teacher", "other classes"),
    ),
    "no encodings": Case("dump_labels", lambda p: p.update(encodings={}), ("encodings", "at least one row")),
    "an unknown encoding": Case(
        "dump_labels", section("encodings.top2", kind="topp"), ("encodings.top2.kind", "'topk'")
    ),
    "more classes than there are": Case(
        "dump_labels",
        lambda p: (p["encodings"]["top2"].update(k=4), p["students"]["small"].update(labels="top2")),
        ("encodings.top2", "4"),
    ),
    "a temperature that is not declared": Case(
        "dump_labels", section("dump_labels", temperature=3.0), ("dump_labels.temperatures", "3")
    ),
    "no views": Case("dump_labels", section("dump_labels", num_views=0), ("dump_labels.num_views", "0")),
    "no file of logits": Case("import_labels", lambda p: None, ("gone.npy", "no such file"), ("--logits", "gone.npy")),
    "logits of nobody": Case(
        "import_labels",
        files(lambda: np.savez("l.npz", logits=np.zeros((2, 3), np.float32), ids=np.array(["a", "b"]))),
        ("l.npz", "'a'", "samples.tsv"),
        ("--logits", "l.npz"),
    ),
    "logits without ids": Case(
        "import_labels",
        files(lambda: np.save("l.npy", np.zeros((2, 3), np.float32))),
        ("--ids",),
        ("--logits", "l.npy"),
    ),
}
SMALL, LOSS = "students.small", {"standardize": False}
STUDENTS = {
    "an unknown student": Case("train_student", lambda p: None, ("students.smal", "'small'"), ("--name", "smal")),
    "no stores": Case("train_student", files(remove("data/dump_labels")), ("data/dump_labels/dense8.zarr",)),
    "an unknown store": Case("train_student", section(SMALL, labels="dens8"), ("dens8", "'dense8'", f"{SMALL}.labels")),
    "labels of none": Case("train_student", section(SMALL, labels="none"), (f"{SMALL}.labels", "no soft labels")),
    "an unknown loss": Case("train_student", section(SMALL, loss={"kind": "kdd"}), (f"{SMALL}.loss.kind", "'kd'")),
    "a loss that needs more": Case(
        "train_student",
        section(SMALL, labels="top2", loss={"kind": "mse", **LOSS}),
        (f"{SMALL}.loss", "dense encoding"),
    ),
    "a temperature that is not stored": Case(
        "train_student", section(SMALL, labels="top2", temperature=3.0), ("temperature", "3", "1, 2")
    ),
    "a twin of nobody": Case("train_student", section(SMALL, twin_of="smal"), (f"{SMALL}.twin_of", "'small'")),
    "nothing to learn": Case("train_student", section(SMALL, soft_weight=0.0, hard_weight=0.0), (SMALL, "both 0")),
    "no epochs": Case("train_student", section(f"{SMALL}.fit", epochs=0), (f"{SMALL}.fit.epochs", "at least 1")),
    "a group that differs": Case(
        "train_student",
        lambda p: p["students"].update(small=student(group="g"), other=student(group="g", seed=1)),
        ("students.other.seed", "students.small.seed"),
    ),
    "a seed below 0": Case("train_student", section(SMALL, seed=-1), (f"{SMALL}.seed", "-1")),
}
STORE = "data/dump_labels/dense8.zarr"
STORES = {
    "a flipped bit": Case(
        "train_student", files(flip(f"{STORE}/log_prob_codes")), (f"{STORE}/log_prob_codes", "damaged")
    ),
    "a lost block": Case("train_student", files(remove(f"{STORE}/log_prob_codes/c/0")), (STORE, "view 0")),
    "a cut manifest": Case("train_student", files(cut(f"{STORE}/zarr.json")), (STORE,)),
    "no manifest": Case("train_student", files(remove(f"{STORE}/zarr.json")), (STORE,)),
    "lost ids": Case("train_student", files(remove(f"{STORE}/sample_key")), (f"{STORE}/sample_key",)),
    "a store for other data": Case(
        "train_student",
        files(
            both(
                remove("images/train/ant"),
                *(put(f"images/train/ant/{n}.png", image_file(99 + n)) for n in range(9)),
                lambda: run("prepare"),
            )
        ),
        (STORE,),
    ),
    "a flipped bit that is verified": Case(
        "verify_labels", files(flip(f"{STORE}/log_prob_codes")), ("data/dump_labels", "1 faults", STORE)
    ),
}
for group in (PARAMS, FOLDERS, TABLES, TEACHERS, LABELS_OF, STUDENTS, STORES):
    for name, case in group.items():
        if case.stage == "train_student" and not case.arguments:
            group[name] = case._replace(arguments=("--name", "small"))
CASES = [
    pytest.param(case, id=f"{case.stage}: {name}")
    for group in (PARAMS, FOLDERS, TABLES, TEACHERS, LABELS_OF, STUDENTS, STORES)
    for name, case in group.items()
]


def test_there_are_many_ways_to_be_wrong() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("case", CASES)
def test_it_ends_in_one_line_that_names_what_is_wrong(
    case: Case, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "project"))
    monkeypatch.chdir(folder)
    params = base_params()
    case.spoil(params)
    write_params(folder, params)
    before = {name: content for out in OUTPUTS for name, content in files_of(folder / out).items()}
    capsys.readouterr()
    status = run(case.stage, *case.arguments)
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1
    assert len(errors) == 1, err
    assert all(part in errors[0] for part in case.parts), errors[0]
    assert "Traceback" not in out + err
    assert "BOOM" not in out + err
    if case.stage != "verify_labels":
        assert {name: content for out in OUTPUTS for name, content in files_of(folder / out).items()} == before
