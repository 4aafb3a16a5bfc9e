"""The stage export: files predict what torch predicts, describe themselves, are reproducible."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from made import Made
from PIL import Image
from project import environment, files_of, forget, small_params, write_params
from safetensors import safe_open
from written_once import onnx_files_written_once

import pipeline.export.int8_file
from pipeline.core.closure import TOP
from pipeline.core.errors import ConfigError
from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import decode
from pipeline.data.splits import SplitInMemory
from pipeline.export import measure
from pipeline.export.libraries import ExportError
from pipeline.export.onnx_file import run_onnx
from pipeline.models import read_weights
from pipeline.models.saved import ModelMeta, read_model, write_model
from stages import export as stage


def train(folder: Path, dataset: ImageDataset) -> None:
    """Trains a student of hard labels, to about 95 %."""
    meta = ModelMeta.untrained("convnet_small", {"width": 8, "depth": 1}, dataset.manifest, {"labels": "none"})
    model, split = meta.build(seed=0), dataset.split("train")
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        for rows in torch.randperm(len(split), generator=generator).split(64):
            loss = F.cross_entropy(model(split.inputs[rows]), split.hard_labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    write_model(folder, meta.trained("float32", {}), model.state_dict())


def run_export(folder: Path, out: str = "data/export", **changes: Any) -> None:
    params = small_params()
    params["export"] |= changes
    stage.main(
        "small",
        write_params(folder, params),
        folder / "data/prepare",
        folder / "data/train_student",
        folder / out,
        folder / "reports/export",
        folder / "work",
    )


@pytest.fixture(scope="module", autouse=True)
def written_once() -> Iterator[None]:
    with onnx_files_written_once():
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a folder with a student of the digits, exported."""
    folder = made.copy(small_params(), "prepare", tmp_path_factory.mktemp("exported"))
    train(folder / "data/train_student/small", ImageDataset(folder / "data/prepare"))
    run_export(folder)
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "project"))


@pytest.fixture
def test_split(exported: Path) -> SplitInMemory:
    return ImageDataset(exported / "data/prepare").split("test")


def test_the_report_is_what_the_files_say_of_every_test_image(exported: Path, test_split: SplitInMemory) -> None:
    report = json.loads((exported / "reports/export/small.json").read_text())
    model = read_model(exported / "data/train_student/small", made_by="")
    with torch.no_grad():
        expected = model(test_split.inputs).double()
    assert report["num_test"] == len(test_split)
    for file, row in report["files"].items():
        path = exported / "data/export/small" / file
        said = run_onnx(path, [test_split.inputs]).double()
        assert row["bytes"] == path.stat().st_size
        assert row["accuracy"] == pytest.approx((said.argmax(1) == test_split.hard_labels).double().mean().item())
        assert row["top1_agreement"] == pytest.approx((said.argmax(1) == expected.argmax(1)).double().mean().item())
        assert row["largest_difference"] == pytest.approx((said - expected).abs().max().item(), rel=0.1, abs=1e-5)
        kl = (expected.softmax(1) * (expected.log_softmax(1) - said.log_softmax(1))).sum(1).mean().item()
        assert row["kl_to_torch"] == pytest.approx(kl, rel=1e-3, abs=1e-9)
        assert row["latency_ms"]["one"]["p50"] > 0
    float32, int8 = report["files"].values()
    assert report["torch"]["accuracy"] == pytest.approx(float32["accuracy"])
    assert report["torch"]["accuracy"] > 0.9
    assert abs(report["int8_drop_points"]) < 0.5
    assert int8["top1_agreement"] > 0.98
    assert report["int8_size_ratio"] == int8["bytes"] / float32["bytes"]


@pytest.mark.parametrize("alike", [0.0, 2.0])
def test_int8_weights_have_the_bits_that_are_nearer_to_float32_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, alike: float
) -> None:
    monkeypatch.setattr(pipeline.export.int8_file, "_ALIKE", alike)  # 2: never alike enough
    found = {}
    for reduce_range in (False, True, None):
        forget(folder, "export/small")
        run_export(folder, reduce_range=reduce_range)
        report = json.loads((folder / "reports/export/small.json").read_text())
        found[reduce_range] = (folder / "data/export/small/model_int8.onnx").read_bytes()
        assert report["int8"]["weight_bits"] in {False: (8,), True: (7,), None: (7, 8)}[reduce_range]
    assert found[False] != found[True]
    assert found[None] == (found[False] if alike == 0 or report["int8"]["weight_bits"] == 8 else found[True])


def test_another_process_in_another_place_writes_the_same_bytes_and_says_one_line(folder: Path) -> None:
    before = files_of(folder / "data/export")
    forget(folder, "export/small")
    command = [sys.executable, "-m", "stages.export", "--name", "small"]
    variables = environment() | {"PYTHONPATH": str(TOP), "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("export@small: model.onnx ")
    after = files_of(folder / "data/export")
    assert list(after) == ["small/model.onnx", "small/model.safetensors", "small/model_int8.onnx", "small/predict.py"]
    assert after == before


def test_the_files_hold_nothing_of_where_they_were_made(exported: Path) -> None:
    for name, content in files_of(exported / "data/export").items():
        for trace in (str(TOP), str(exported), "classifier.py", "site-packages", "pkg.torch"):
            assert trace.encode() not in content, name


def test_every_file_says_what_it_wants_and_what_it_means(exported: Path) -> None:
    folder, manifest = exported / "data/export/small", ImageDataset(exported / "data/prepare").manifest
    with safe_open(folder / "model.safetensors", "pt") as file:
        said = [json.loads(file.metadata()["potstill"])]
    for name in ("model.onnx", "model_int8.onnx"):
        model = onnx.load(folder / name)
        onnx.checker.check_model(model, full_check=True)
        said.append({entry.key: json.loads(entry.value) for entry in model.metadata_props})
        (pixels,), (logits,) = model.graph.input, model.graph.output
        assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert [d.dim_value or d.dim_param for d in pixels.type.tensor_type.shape.dim] == ["batch", 1, 8, 8]
        assert [d.dim_value or d.dim_param for d in logits.type.tensor_type.shape.dim] == ["batch", 10]
    assert said[0] == said[1] == said[2]
    assert said[0]["class_names"] == manifest.class_names
    assert said[0]["image_shape"] == [1, 8, 8]
    assert (said[0]["mean"], said[0]["std"]) == (manifest.mean, manifest.std)
    assert said[0]["model_settings"] == {"width": 8, "depth": 1}
    assert said[0]["settings"] == {"labels": "none"}


def test_the_weights_can_be_trained_on(exported: Path) -> None:
    weights = read_weights(exported / "data/export/small/model.safetensors")
    expected = read_model(exported / "data/train_student/small", made_by="").network.state_dict()
    assert weights.tensors.keys() == expected.keys()
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("file", ["model.onnx", "model_int8.onnx"])
def test_the_example_needs_onnxruntime_numpy_and_pillow_alone(
    exported: Path, test_split: SplitInMemory, tmp_path: Path, file: str
) -> None:
    row = {"model.onnx": 0, "model_int8.onnx": 5}[file]
    image, label = test_split.inputs[row, 0], int(test_split.hard_labels[row])
    Image.fromarray(image.numpy()).save(tmp_path / "digit.png")
    shutil.copytree(exported / "data/export/small", tmp_path / "small")
    (tmp_path / "run.py").write_text(
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'onnx', 'onnxscript', 'safetensors', 'jaxtyping', 'pipeline']))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "run.py", "small/predict.py", "digit.png", file]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        probs = read_model(exported / "data/train_student/small", made_by="")(image[None, None]).softmax(1)[0]
    share, name = done.stdout.splitlines()[0].split()
    assert probs.argmax() == label
    assert name == str(label)
    assert float(share.rstrip("%")) / 100 == pytest.approx(
        probs.max().item(), abs=1e-4 if file == "model.onnx" else 0.03
    )


@pytest.mark.parametrize("kind", ["transparent", "16 bits", "colour", "larger"])
def test_the_example_sees_images_as_they_were_prepared(
    exported: Path, test_split: SplitInMemory, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    pixels = test_split.inputs[3, 0].numpy()
    image = {
        "transparent": lambda: Image.merge("LA", [Image.fromarray(pixels), Image.fromarray(255 - pixels)]),
        "16 bits": lambda: Image.fromarray(pixels.astype(np.uint16) * 257),
        "colour": lambda: Image.merge("RGB", [Image.fromarray(pixels)] * 3),
        "larger": lambda: Image.fromarray(pixels.repeat(2, axis=0).repeat(2, axis=1)),
    }[kind]()
    image.save(tmp_path / "digit.png")
    prepared = torch.from_numpy(decode(tmp_path / "digit.png", 1, pixels.shape))
    with torch.no_grad():
        probs = read_model(exported / "data/train_student/small", made_by="")(prepared[None]).softmax(1)[0]
    runpy.run_path(str(exported / "data/export/small/predict.py"))["main"](str(tmp_path / "digit.png"))
    shown = {
        name: float(share.rstrip("%")) / 100 for share, name in map(str.split, capsys.readouterr().out.splitlines())
    }
    for name, share in shown.items():
        assert share == pytest.approx(probs[int(name)].item(), abs=1e-2 if kind == "larger" else 1e-4)


def test_the_example_says_how_to_use_it(exported: Path, tmp_path: Path) -> None:
    for arguments in ([], ["nothing.png"]):
        command = [sys.executable, str(exported / "data/export/small/predict.py"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 1
        assert "python predict.py image.jpg" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_example_takes_a_network_by_its_path_and_refuses_what_is_no_image(
    exported: Path, test_split: SplitInMemory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported / "data/export/small"
    main = runpy.run_path(str(folder / "predict.py"))["main"]
    Image.fromarray(test_split.inputs[0, 0].numpy()).save(tmp_path / "digit.png")
    main(str(tmp_path / "digit.png"), str(folder / "model_int8.onnx"))
    assert len(capsys.readouterr().out.splitlines()) == 5
    whole = (tmp_path / "digit.png").read_bytes()
    for name, content in (("list.png", b"path,label"), ("cut.png", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SystemExit, match=rf"{name}: not an image, or a damaged one \("):
            main(str(tmp_path / name))


def shift(monkeypatch: pytest.MonkeyPatch, file: str, by: float) -> None:
    """Shifts the logits of one file."""
    real = measure.run_onnx

    def shifted(path: Path, batches: Any, *keep: Any) -> torch.Tensor:
        logits = real(path, batches, *keep)
        logits[:, 0] += by if path.name == file else 0
        return logits

    monkeypatch.setattr(measure, "run_onnx", shifted)


def test_a_file_that_says_something_else_stops_the_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, reports = files_of(folder / "data"), files_of(folder / "reports")
    shift(monkeypatch, "model.onnx", 2e-2)
    with pytest.raises(
        ExportError, match=r"^model\.onnx: a logit differs .* by 0\.02, .* of the logits. spread .*logit_tolerance"
    ) as caught:
        run_export(folder, num_calibration_images=64)
    assert "\n" not in str(caught.value)
    assert files_of(folder / "data") == outputs
    assert files_of(folder / "reports") == reports


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"int8": False}, ""), ({"int8_seconds": 0.01}, "model_int8.onnx is left out: .* raise export.int8_seconds")],
)
def test_float32_is_delivered_without_int8(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: str
) -> None:
    run_export(folder, **changes)
    assert sorted(files_of(folder / "data/export/small")) == ["model.onnx", "model.safetensors", "predict.py"]
    report = json.loads((folder / "reports/export/small.json").read_text())
    assert list(report["files"]) == ["model.onnx"]
    assert list(report["left_out"]) == (["model_int8.onnx"] if told else [])
    assert "int8" not in report
    _, *notes = capsys.readouterr().err.splitlines()
    assert len(notes) == bool(told)
    assert re.match(f"export@small: {told}$" if told else "", "".join(notes))


def test_accuracy_that_int8_loses_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shift(monkeypatch, "model_int8.onnx", 1e3)
    run_export(folder, max_int8_drop_points=2.0)
    assert "points of accuracy, more than 2; " in capsys.readouterr().err
    report = json.loads((folder / "reports/export/small.json").read_text())
    assert report["int8_drop_points"] > 50


def test_a_finished_export_is_not_done_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_export(folder)
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("exports", "parts"),
    [
        (["smal"], ["params.yaml: exports", "'smal'", "did you mean 'small'"]),
        (["small", "small"], ["'small' twice"]),
        (["small_hard"], ["no 'small'", "small_hard"]),
        ("small", ["params.yaml: exports", "list"]),
    ],
)
def test_a_mistake_in_the_list_is_one_clear_line(folder: Path, exports: Any, parts: list[str]) -> None:
    path = write_params(folder, small_params() | {"exports": exports})
    with pytest.raises(ConfigError) as caught:
        stage.main("small", path, folder / "data/prepare", folder / "data/train_student", folder / "out")
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_library_that_is_missing_is_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("executorch", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExportError, match=r"onnxscript can't be imported .*\[export\]"):
        run_export(folder)
    monkeypatch.setattr("pipeline.export.libraries._NEEDED", ("onnx",))
    with pytest.raises(ExportError, match=r"executorch can't be imported .*\[executorch\]"):
        run_export(folder, executorch=True)


@pytest.mark.filterwarnings("ignore")  # of its imports
def test_executorch_says_what_torch_says(folder: Path, test_split: SplitInMemory) -> None:
    runtime = pytest.importorskip("executorch.runtime", exc_type=ImportError)

    run_export(folder, executorch=True)
    row = json.loads((folder / "reports/export/small.json").read_text())["files"]["model.pte"]
    assert row["top1_agreement"] == 1.0
    path = folder / "data/export/small/model.pte"
    assert row["bytes"] == path.stat().st_size
    (class_names,) = runtime.Runtime.get().load_program(path).load_method("class_names").execute([])
    assert json.loads(class_names) == ImageDataset(folder / "data/prepare").manifest.class_names
    content = path.read_bytes()
    run_export(folder, "again", executorch=True)
    assert (folder / "again/small/model.pte").read_bytes() == content
