"""Teachers that people bring: of torchvision, of timm, in a file of their own, as ONNX. Each serves
from import to verified labels, from its own folder alone; whatever does not fit is one clear line.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_split
from project import student
from safetensors.torch import save_file
from teachers import (
    CLASSES,
    USER_FILE,
    begin,
    edit_params,
    knowing,
    make_project,
    run_dump,
    run_evaluate,
    run_student,
    run_teacher,
    run_verify,
    write_onnx,
)

from pipeline.core.errors import ConfigError, ModelError
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models import ClassifierSpec
from pipeline.models.saved import model_fingerprint, read_meta, read_model
from pipeline.report.columns import Table
from pipeline.report.marks import MARKS
from pipeline.report.tables import network_lines, quality_columns
from pipeline.results.evaluation import Evaluation
from pipeline.results.files import read_result
from pipeline.training.start import WeightClasses

HALF = {"mean": [0.5], "std": [0.5]}
TORCHVISION, TIMM = "torchvision/shufflenet_v2_x0_5", "timm/test_resnet"


@pytest.fixture(autouse=True)
def no_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging face"))


def of_torchvision(folder: Path) -> dict[str, Any]:
    weights = {f"module.{name}": tensor for name, tensor in knowing(TORCHVISION, {}, size=32).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, folder / "mine.pth")
    return {"model": TORCHVISION, "model_settings": {}, "weights": "mine.pth", "input": {"size_px": 32, **HALF}}


def of_timm(folder: Path) -> dict[str, Any]:
    save_file(knowing(TIMM, {}, size=32).state_dict(), folder / "mine.safetensors")
    return {"model": TIMM, "model_settings": {}, "weights": "mine.safetensors", "input": {"size_px": [32, 32], **HALF}}


def of_user(folder: Path) -> dict[str, Any]:
    (folder / "mine.py").write_text(USER_FILE)
    eye = {"head.weight": torch.eye(4), "head.bias": torch.zeros(4)}
    save_file(eye, folder / "mine.safetensors")
    return {"model": "mine.py:build", "model_settings": {"sharpness": 5.0}, "weights": "mine.safetensors"}


def of_onnx(folder: Path) -> dict[str, Any]:
    write_onnx(folder / "mine.onnx")
    return {"model": "onnx/mine.onnx", "model_settings": {}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("bring", [of_torchvision, of_timm, of_user, of_onnx])
def test_a_teacher_that_was_brought_serves_from_its_own_folder_alone(
    project: Path, bring: Callable[[Path], dict[str, Any]]
) -> None:
    make_project(project, bring(project))
    folder = run_teacher(project)
    for file in project.glob("mine.*"):
        file.unlink()
    run_dump(project)
    run_verify(project)
    faults = json.loads((project / "reports/verify_labels.json").read_text())["stores"]
    assert all(result["faults"] == [] for result in faults.values())
    store = StoreReader(project / "data/dump_labels/dense16.zarr")
    assert store.manifest.teacher is not None
    assert store.manifest.teacher["fingerprint"] == model_fingerprint(folder)
    assert store.manifest.teacher["val_accuracy"] > 0.9
    assert not list(folder.rglob("__pycache__"))
    moved = shutil.move(folder, project / "elsewhere")
    images = ImageDataset(project / "data/prepare").split("val")
    says = read_model(Path(moved), made_by="train_teacher")(images.inputs).argmax(dim=1)
    assert (says == images.hard_labels).double().mean() > 0.9


def test_students_of_both_libraries_learn_from_an_onnx_teacher_and_are_evaluated(project: Path) -> None:
    make_project(project, of_onnx(project))
    models = {
        "small": (TORCHVISION, {"size_px": 32}),
        "small_hard": (TIMM, {"size_px": 32, "mean": [0.4], "std": [0.3]}),
    }
    fit = student()["fit"] | {"epochs": 1, "batch_size": 16, "checkpoint_seconds": 60.0}
    for name, (model, images) in models.items():
        changes = {"model": model, "model_settings": {}, "input": images, "fit": fit}
        edit_params(project, f"students.{name}", **changes)
    begun = ClassifierSpec(
        "convnet_small", {"width": 4, "depth": 1}, num_classes=7, channels=1, mean=[0.4], std=[0.3]
    ).build()
    torch.save(begun.network.state_dict(), "begun.pt")
    begins = {"weights": "begun.pt", "new_head": True, "fit": fit | {"freeze_epochs": 1, "layer_decay": 0.5}}
    edit_params(project, "students", begun=student(labels="dense16", **begins))
    run_teacher(project)
    run_dump(project)
    found = read_model(run_student(project, "begun"), made_by="begun").network.state_dict()
    kept = {name for name, tensor in begun.network.state_dict().items() if torch.equal(found[name], tensor)}
    assert found.keys() - kept == {"5.weight", "5.bias"}
    for name in models:
        folder = run_student(project, name)
        meta = read_meta(folder, made_by=name)
        assert meta.size_px == [32, 32]
        assert meta.mean == (models[name][1].get("mean") or ImageDataset(project / "data/prepare").manifest.mean)
    run_evaluate(project)
    rows = json.loads((project / "reports/evaluate.json").read_text())["models"]
    assert rows["teacher"]["parameters"] == 16
    assert rows["teacher"]["multiply_adds"] is None
    assert rows["teacher"]["file_bytes"] == (project / "data/train_teacher/network.onnx").stat().st_size
    assert rows["teacher"]["cost"]["peak_memory_bytes"] > 0
    assert rows["teacher"]["accuracy"] > 0.9
    assert rows["small"]["multiply_adds"] > 1000
    networks = read_result(Evaluation, project / "reports/evaluate.json", made_by="").models
    assert Table.of(quality_columns(MARKS["categorical"]), network_lines(networks)).text(
        "simple"
    )  # an empty cell is no fault


# Published weights


def names_of_imagenet() -> list[str]:
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    return list(ShuffleNet_V2_X0_5_Weights.DEFAULT.meta["categories"])


def cache_published(folder: Path, outputs: tuple[int, ...]) -> None:
    """Puts a file where torchvision looks before it downloads."""
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    network = knowing(TORCHVISION, {}, num_outputs=1000, outputs=outputs, size=32)
    cache = folder / "torch/hub/checkpoints" / Path(ShuffleNet_V2_X0_5_Weights.DEFAULT.url).name
    cache.parent.mkdir(parents=True)
    torch.save(network.state_dict(), cache)


PUBLISHED = {"model": TORCHVISION, "model_settings": {}, "weights": "published"}


def test_published_weights_speak_of_this_datas_classes_by_name_and_by_map(project: Path) -> None:
    names = names_of_imagenet()
    outputs = tuple(map(names.index, ("ant", "bee", "zebra", "teapot")))
    cache_published(project, outputs)
    where = {"cow": ["zebra", "ox"], "doe": [outputs[3]]}
    make_project(project, PUBLISHED | {"class_map": where, "input": {"size_px": 32, **HALF}})
    meta = read_meta(run_teacher(project), made_by="train_teacher")
    assert meta.class_groups == [[outputs[0]], [outputs[1]], [outputs[2], names.index("ox")], [outputs[3]]]
    assert meta.num_outputs == 1000
    assert meta.val["accuracy"] > 0.9
    model = read_model(project / "data/train_teacher", made_by="train_teacher")
    images = ImageDataset(project / "data/prepare").split("val").inputs[:5]
    normalised = torch.nn.functional.interpolate(images.float(), (32, 32), mode="bilinear", antialias=True)
    probabilities = torch.softmax(model.network(((normalised / 255 - 0.5) / 0.5).expand(-1, 3, -1, -1)).double(), dim=1)
    mine = torch.stack([probabilities[:, group].sum(dim=1) for group in meta.class_groups], dim=1)
    expected = mine / mine.sum(dim=1, keepdim=True)
    torch.testing.assert_close(torch.softmax(model(images).double(), dim=1), expected, rtol=1e-4, atol=1e-7)


def test_published_weights_say_how_they_want_their_images(project: Path) -> None:
    cache_published(project, (0, 1, 2, 3))
    make_project(
        project, PUBLISHED | {"new_head": True, "input": {"size_px": 32}}, epochs=1, freeze_epochs=1, layer_decay=0.5
    )
    published = knowing(TORCHVISION, {}, num_outputs=1000, size=32).state_dict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teacher.outputs.ImportedOutputs.check", lambda *arguments: None)
        folder = run_teacher(project)
    meta = read_meta(folder, made_by="train_teacher")
    assert (meta.mean, meta.std, meta.size_px) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], [32, 32])
    found = read_model(folder, made_by="train_teacher").network.state_dict()
    assert found["fc.weight"].shape == (4, 1024)
    assert all(torch.equal(found[name], published[name]) for name in found if not name.startswith("fc."))


def test_a_download_that_fails_is_one_line(project: Path) -> None:
    make_project(project, PUBLISHED)
    with pytest.raises(ModelError, match=r"published weights can't be had .*download https://\S+ elsewhere") as caught:
        run_teacher(project)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [None, 64])
def test_timm_gives_size_normalisation_and_classes_of_its_published_weights(project: Path, size: int | None) -> None:
    network = knowing(TIMM, {}, num_outputs=1000, outputs=(310, 309, 340, 849), size=size or 160)
    torch.save(network.state_dict(), project / "published.pth")
    names = ["ant", "bee", "zebra", "teapot"]
    teacher = {"model": TIMM, "model_settings": {"pretrained_cfg_overlay": {"file": str(project / "published.pth")}}}
    make_project(project, teacher | {"weights": "published", "input": size and {"size_px": size}})
    edit_params(project, "train_teacher", class_map={"cow": names[2:3], "doe": names[3:]})
    meta = read_meta(run_teacher(project), made_by="train_teacher")
    assert meta.class_groups == [[310], [309], [340], [849]]
    assert (meta.mean, meta.std) == ([0.5] * 3, [0.5] * 3)
    assert meta.size_px == [size or 160] * 2
    assert meta.val["accuracy"] > 0.9


def test_only_libraries_have_published_weights(project: Path) -> None:
    make_project(project, of_user(project) | {"weights": "published"})
    with pytest.raises(ModelError, match=r"mine.py:build.*no published weights"):
        run_teacher(project)


# Classes


def test_the_order_of_the_teachers_classes_does_not_matter_where_it_is_said(project: Path) -> None:
    make_project(project, of_onnx(project))
    plain = run_teacher(project)
    before = read_model(plain, made_by="train_teacher")
    names = project / "names.txt"
    names.write_text("ant\nBEE\ncow\ndoe\n\n")
    edit_params(project, "train_teacher", teacher_classes=str(names))
    assert read_meta(run_teacher(project), made_by="train_teacher").class_groups is None
    write_onnx(project / "mine.onnx", classes=4)
    edit_params(project, "train_teacher", teacher_classes=["bee", "ant", "doe", "cow"])
    with pytest.raises(
        ModelError,
        match=r"accuracy 0.00% on 64 labelled images, but 100.00% with its outputs in another order; .*class_map",
    ):
        run_teacher(project)
    images = ImageDataset(project / "data/prepare").split("val").inputs
    assert before(images).shape == (64, 4)


@pytest.mark.parametrize(
    ("names", "class_map", "told"),
    [
        (["ant", "bee"], None, r"teacher_classes: 2 names for 4 outputs"),
        (["ant", "bee", "cow", "dog"], None, r"no class 'doe'; .*did you mean 'dog'"),
        (["ant", "ant", "cow", "doe"], None, r"2 classes 'ant': outputs 0, 1.*class_map"),
        (None, {"ape": [1]}, r"class_map.ape: no such class"),
        (None, {"ant": [1]}, r"class_map: lacks class 'bee'"),
        (None, {"ant": []}, r"class_map.ant: no output"),
        (None, {"ant": [4], "bee": [1]}, r"class_map.ant: output 4; expected 0 to 3"),
        (None, {"ant": ["a"]}, r"the outputs have no names"),
        (None, {"ant": [0], "bee": [0], "cow": [1], "doe": [2]}, r"output 0 stands for 'ant' and for 'bee'"),
    ],
)
def test_classes_that_do_not_match_are_one_line(
    project: Path, names: list[str] | None, class_map: dict[str, list[int | str]] | None, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        begin(project, of_onnx(project), WeightClasses(names, class_map))
    assert "\n" not in str(caught.value)


def test_a_file_of_class_names_that_is_not_there_is_one_line(project: Path) -> None:
    make_project(project, of_onnx(project) | {"teacher_classes": "missing.txt"})
    with pytest.raises(ConfigError, match=r"teacher_classes: missing.txt: No such file"):
        run_teacher(project)


def test_outputs_of_another_number_than_the_classes_need_names(project: Path) -> None:
    make_project(project, of_onnx(project))
    write_onnx(project / "mine.onnx", classes=6)
    with pytest.raises(ConfigError, match="6 outputs, and 4 classes in the data"):
        run_teacher(project)
    edit_params(project, "train_teacher", teacher_classes=[*CLASSES, "eel", "fox"])
    assert read_meta(run_teacher(project), made_by="train_teacher").class_groups == [[0], [1], [2], [3]]


# What does not fit


@pytest.mark.parametrize(
    ("source", "changes", "told"),
    [
        (USER_FILE, {"model": "mine.py:bild"}, r"no function 'bild' in it; .*did you mean 'build'"),
        (USER_FILE, {"model": "mine.py"}, r"names no function; expected .*my_model.py:build"),
        (USER_FILE, {"model": "yours.py:build"}, r"yours.py: no such file"),
        (USER_FILE, {"model": "mine.py:other", "model_settings": {}}, r"other returns a list; expected an nn.Module"),
        (USER_FILE, {"model_settings": {"sharpnes": 1}}, r"build fails \(TypeError: .*sharpnes"),
        ("def build(:\n", {}, r"mine.py:1: not valid Python"),
        ("x = 1\nraise RuntimeError('no luck')\n", {}, r"line 2: can't be loaded \(RuntimeError: no luck"),
        ("def build(n, c):\n    return 1 / 0\n", {"model_settings": {}}, r"line 2: build fails \(ZeroDivisionError"),
        (USER_FILE.replace("Linear(4, outputs)", "Linear(4, 4)").replace("flatten(1)", "flatten(0)"), {}, "mine.py"),
        (USER_FILE.replace("nn.Linear(4, outputs)", "nn.Linear(4, 5)"), {}, r"outputs of shape \(1, 5\)"),
    ],
)
def test_a_users_file_that_does_not_do_is_one_line(
    project: Path, source: str, changes: dict[str, Any], told: str
) -> None:
    teacher = of_user(project) | changes
    (project / "mine.py").write_text(source)
    (project / "out").mkdir()
    with pytest.raises(ModelError, match=told) as caught:
        begin(project / "out", teacher).build(0)
    assert "\n" not in str(caught.value)


def test_a_users_file_that_has_changed_makes_another_teacher(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_project(project, of_user(project))
    before = model_fingerprint(run_teacher(project))
    run_teacher(project)
    assert "nothing to do" in capsys.readouterr().err
    (project / "mine.py").write_text(USER_FILE + "\n# another remark\n")
    folder = run_teacher(project)
    assert "nothing to do" not in capsys.readouterr().err
    assert model_fingerprint(folder) != before
    (folder / "network.py").write_text(USER_FILE)
    with pytest.raises(ModelError, match=r"network.py: not the file that meta.json was written with"):
        read_model(folder, made_by="train_teacher")


@pytest.mark.parametrize(
    ("form", "changes", "told"),
    [
        ({"rank": 3}, {}, r"its inputs are: images tensor\(float\) \['batch', 1, 12\]; expected one input of floats"),
        ({"inputs": 2}, {}, r"its inputs are: images .*, extra .*; expected one input"),
        ({"channels": 12, "size": 12}, {}, r"\['batch', 12, 12, 12\]; expected"),
        ({"kind": "INT32"}, {}, "mine.onnx"),
        ({"outputs": 2}, {}, r"has outputs logits, flat; expected one"),
        ({"outputs": 2}, {"model_settings": {"output": "logit"}}, r"no output 'logit'; .*did you mean 'logits'"),
        ({}, {"model_settings": {"threads": 2}}, r"unknown setting 'threads'"),
        ({}, {"input": {"size_px": 16}}, r"can't take images of 1 x 16 x 16"),
    ],
)
def test_an_onnx_file_that_does_not_do_is_one_line(
    project: Path, form: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    teacher = of_onnx(project) | changes
    write_onnx(project / "mine.onnx", **form)
    (project / "out").mkdir()
    with pytest.raises(ModelError, match=told) as caught:
        begin(project / "out", teacher).build(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07"])
def test_a_file_that_is_no_onnx_is_one_line(project: Path, content: bytes) -> None:
    teacher = of_onnx(project)
    (project / "mine.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"onnx/mine.onnx': not an ONNX file"):
        begin(project, teacher)


@pytest.mark.parametrize(
    ("form", "scale"),
    [
        ({"batch": 1}, 1),
        ({"batch": 5}, 1),
        ({"kind": "FLOAT16"}, 1),
        ({"size": "size", "channels": "channels"}, 1),
        ({"channels": 3}, 3),  # the sum over channels, which are all the same
        ({"beside": True}, 1),
    ],
)
def test_onnx_files_of_any_form_say_the_same(project: Path, form: dict[str, Any], scale: int) -> None:
    (project / "out").mkdir()
    images = make_split(7).inputs
    expected = begin(project / "out", of_onnx(project)).build(0)(images)
    write_onnx(project / "mine.onnx", **form)
    start = begin(project / "out", {"model": "onnx/mine.onnx", "model_settings": {}})
    for file in project.glob("mine.onnx*"):
        file.unlink()
    tolerance = 1e-2 if "kind" in form else 1e-6
    torch.testing.assert_close(start.build(0)(images), scale * expected, rtol=tolerance, atol=tolerance)


def test_an_onnx_file_of_a_fixed_size_has_the_images_resized(project: Path) -> None:
    make_project(project, of_onnx(project), shape=(1, 17, 23))
    meta = read_meta(run_teacher(project), made_by="train_teacher")
    assert meta.size_px == [12, 12]
    assert meta.val["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("changes", "fit", "told"),
    [
        ({"weights": None}, {}, "epochs: 0 and no weights"),
        ({"weights": None, "new_head": True}, {"epochs": 1}, "new_head: true, and no weights"),
        ({"new_head": True}, {}, "new_head: true, and epochs: 0"),
        ({"new_head": True, "class_map": {"ant": [1]}}, {"epochs": 1}, "class_map: given, and new_head: true"),
        ({"weights": None, "teacher_classes": ["a"]}, {"epochs": 1}, "teacher_classes: given, and no weights"),
        ({"weights": "none.pt"}, {}, "train_teacher.weights: none.pt: no such file"),
        ({"model": "onnx/mine.onnx"}, {}, "weights: an ONNX file has its own"),
        ({"model": "onnx/mine.onnx", "weights": None}, {"epochs": 2}, "0: an ONNX network can't be trained"),
        ({"input": {"size_px": 0}}, {}, "train_teacher.input.size_px"),
        ({"input": {"mean": [0.5, 0.5]}}, {}, "train_teacher.input.mean: 2 numbers"),
        ({"input": {"std": [0.0]}}, {}, "train_teacher.input.std"),
    ],
)
def test_keys_that_contradict_each_other_are_one_line(
    project: Path, changes: dict[str, Any], fit: dict[str, Any], told: str
) -> None:
    make_project(project, of_user(project) | changes, **fit)
    with pytest.raises(ConfigError, match=told):
        run_teacher(project)


def test_an_onnx_network_is_no_student(project: Path) -> None:
    make_project(project, of_user(project))
    edit_params(project, "students.small", model="onnx/mine.onnx", model_settings={})
    with pytest.raises(
        ConfigError, match=r"students.small.fit.epochs: 2; expected 0: an ONNX network can't be trained"
    ):
        run_student(project)


@pytest.mark.parametrize(
    ("library", "extra"), [("timm", "teachers"), ("onnxruntime", "teachers"), ("torchvision", "pipeline")]
)
def test_a_library_that_is_not_there_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, library: str, extra: str
) -> None:
    bring = {"timm": of_timm, "onnxruntime": of_onnx, "torchvision": of_torchvision}[library]
    teacher = bring(project)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=f"{library} can't be imported .*install the extra `{extra}`"):
        begin(project, teacher).build(0)
