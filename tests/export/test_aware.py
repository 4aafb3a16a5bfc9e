"""`int8: aware`: what is trained with rounding is what the int8 file computes, and it is told."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from made import Made
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from project import files_of, forget, small_params, write_params
from teachers import run_student
from torch import nn
from written_once import onnx_files_written_once

from pipeline.core.errors import ConfigError
from pipeline.export import aware
from pipeline.export.fake_int8 import FakeInt8, fake_quantise
from pipeline.export.onnx_file import run_onnx
from pipeline.export.operators import OPERATORS
from pipeline.export.parity import compare
from pipeline.export.quantization import Form, quantiser
from stages import export as stage

RNG = np.random.default_rng(0)
PIXELS = torch.from_numpy(RNG.integers(0, 256, (96, 3, 8, 8)).astype(np.uint8))
AWARE = "model_int8_aware.onnx"
STEPS = {"steps": 12, "learning_rate": 0.001}


def write_hard_swish(path: Path) -> None:
    """Writes a network of what MobileNetV3 is made of: hard-swish, depthwise, squeeze, excite."""
    tensors = {
        "stem": RNG.normal(size=(8, 3, 3, 3)) / 400,
        "stem_bias": RNG.normal(size=8),
        "deep": RNG.normal(size=(8, 1, 3, 3)),
        "squeeze": RNG.normal(size=(8, 8, 1, 1)),
        "head": RNG.normal(size=(10, 8)),
        "head_bias": RNG.normal(size=10),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["0"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["0", "stem", "stem_bias"], ["1"], pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["1"], ["2"]),
        helper.make_node("Conv", ["2", "deep"], ["3"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["3"], ["4"]),
        helper.make_node("GlobalAveragePool", ["4"], ["5"]),
        helper.make_node("Conv", ["5", "squeeze"], ["6"]),
        helper.make_node("HardSigmoid", ["6"], ["7"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["4", "7"], ["8"]),
        helper.make_node("Add", ["8", "2"], ["9"]),
        helper.make_node("GlobalAveragePool", ["9"], ["10"]),
        helper.make_node("Flatten", ["10"], ["11"], axis=1),
        helper.make_node("Gemm", ["11", "head", "head_bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.mark.parametrize("bits", [8, 7])
def test_the_file_computes_what_was_trained(tmp_path: Path, bits: int) -> None:
    source, path = tmp_path / "model.onnx", tmp_path / AWARE
    write_hard_swish(source)
    with quantiser(source, PIXELS) as network:
        model = network.quantised(path, Form(whole=True, bits=bits))
        fake = FakeInt8(model, network.weights, bits)
        before = {name: tensor.clone() for name, tensor in fake.named_parameters()}
        optimizer = torch.optim.AdamW(fake.parameters(), 0.003)
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(fake(PIXELS), torch.arange(96) % 10).backward()
            optimizer.step()
        aware._write(path, network, model, fake)
    still = [name for name, tensor in fake.named_parameters() if torch.equal(before[name], tensor)]
    assert still == ["log_scales.0__scale"]  # pixels are whole numbers: no rounding changes them
    with torch.no_grad():
        trained = fake(PIXELS)
    # Sums of products of 8 bits overflow in some processors (`reduce_range`), but not by ONNX.
    written = onnx.load(path)
    written.opset_import[0].version = 19  # the first whose DequantizeLinear the reference knows
    (by_the_standard,) = ReferenceEvaluator(written).run(None, {"pixels": PIXELS.numpy()})
    for logits in [torch.from_numpy(by_the_standard), *([run_onnx(path, [PIXELS])] if bits == 7 else [])]:
        parity = compare(logits, trained, torch.arange(96) % 10)
        assert parity.relative_difference < 0.05
        assert parity.top1_agreement > 0.97
    int8 = [t for t in onnx.load(path).graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    assert len(int8) == 4
    assert max(np.abs(numpy_helper.to_array(tensor).astype(int)).max() for tensor in int8) <= (127 if bits == 8 else 64)


def test_a_scale_learns_from_what_is_cut_and_from_what_rounding_changes() -> None:
    x, scale = torch.tensor([-9.0, 0.8, 2.3, 900.0], requires_grad=True), torch.tensor(0.5, requires_grad=True)
    found = fake_quantise(x, scale, 10, 0, 255)
    assert found.tolist() == [-5.0, 1.0, 2.5, 122.5]
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(-10 + (1.0 - 0.8) / 0.5 + (2.5 - 2.3) / 0.5 + 245)


def run_export(folder: Path, **changes: Any) -> dict[str, Any]:
    params = small_params()
    params["export"] |= {"int8": "aware", "aware": STEPS, "num_checked_images": 200} | changes
    data = folder / "data"
    stage.main(
        "small",
        write_params(folder, params),
        data / "prepare",
        data / "train_student",
        data / "export",
        folder / "reports/export",
        folder / "work",
        str(data / "dump_labels"),
    )
    report: dict[str, Any] = json.loads((folder / "reports/export/small.json").read_text())
    return report


@pytest.fixture(scope="module", autouse=True)
def written_once() -> Iterator[None]:
    with onnx_files_written_once():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Returns a folder with a student of the digits, and the labels that it learned from."""
    folder = made.copy(small_params(), "dump_labels", tmp_path_factory.mktemp("trained"))
    run_student(folder)
    shutil.rmtree(folder / "data/train_teacher")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "project"))


def test_both_int8_files_are_reported_and_a_killed_training_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # 1. All three files, without the teacher.
    report = run_export(folder)
    assert list(report["files"]) == ["model.onnx", "model_int8.onnx", AWARE]
    assert report["aware"]["num_steps"] == 12
    assert report["aware"]["agreement"] > 0.98
    assert report["files"][AWARE]["top1_agreement"] > 0.7  # it has learned on
    drop = 100 * (report["files"]["model.onnx"]["accuracy"] - report["files"][AWARE]["accuracy"])
    assert report["aware_drop_points"] == pytest.approx(drop)
    assert f"{AWARE} {report['files'][AWARE]['bytes']:,} bytes (weights of" in capsys.readouterr().err
    first = files_of(folder / "data/export")
    # 2. Once more, killed after the training.
    forget(folder, "export/small")
    with monkeypatch.context() as patch:
        patch.setattr(aware, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_export(folder)
    run_export(folder)
    assert "aware int8: was trained before" in capsys.readouterr().err
    assert files_of(folder / "data/export") == first


def test_a_network_that_cannot_be_trained_is_told_and_the_rest_delivered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(OPERATORS, "Sub", torch.add)
    report = run_export(folder)
    assert list(report["files"]) == ["model.onnx", "model_int8.onnx"]
    told = "differs from onnxruntime's by .* of the largest"
    assert list(report["left_out"]) == [AWARE]
    monkeypatch.delitem(OPERATORS, "Conv")
    assert "no gradient is known here of Conv" in run_export(folder, max_int8_drop_points=50.0)["left_out"][AWARE]
    told_by = capsys.readouterr().err
    assert f"export@small: {AWARE} is left out: " in told_by
    assert re.search(told, told_by)


def test_it_needs_the_labels_and_a_word_that_is_known(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"export\.int8: 'awre' \(str\); expected True, False or 'aware'"):
        run_export(folder, int8="awre")
