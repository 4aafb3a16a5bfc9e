"""The stage export for texts, sounds and rows: files predict what torch predicts, say what they
take, and the script beside them makes that of a text, a sound file or a row.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
import torch
import torch.nn.functional as F
from kinds import CLASSES, COLUMNS, KINDS, OF_KIND, RATE_HZ, VOCABULARY, kind_params, write_kind
from project import write_params
from written_once import onnx_files_written_once

from pipeline.core.config import load_section
from pipeline.core.files import read_json
from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import FIRST_WORD, INPUT_KINDS, InputKindName
from pipeline.export.fake_int8 import FakeInt8
from pipeline.export.onnx_file import run_onnx
from pipeline.export.settings import Export
from pipeline.export.write import samples_for, write_forms
from pipeline.models.input_side import copy_input_files
from pipeline.models.saved import ModelMeta, read_meta, read_model, write_model
from pipeline.profiling.latency import measure_cost
from pipeline.results.export import AwareInt8
from pipeline.signals.categorical import CATEGORICAL
from stages import export as stage

FORMATS = {"tokens": 7, "waveform": 5, "row": 6}  # of ONNX: int64, int16, int32


def train(folder: Path, prepared: Path, kind: InputKindName) -> None:
    """Trains a student of hard labels."""
    dataset, own = ImageDataset(prepared), OF_KIND[kind]
    meta = ModelMeta.untrained(own.model["model"], own.model["model_settings"], dataset.manifest, {"labels": "none"})
    folder.mkdir(parents=True)
    copy_input_files(dataset.manifest.input, prepared, folder, None)
    meta = ModelMeta(**{**meta.to_dict(), "side": own.input or {}})
    model, split = meta.build(seed=0, folder=folder), dataset.split("train")
    optimizer = torch.optim.AdamW(model.parameters(), 0.03)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for rows in torch.randperm(len(split), generator=generator).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(split.inputs[rows]), split.hard_labels[rows]).backward()
            optimizer.step()
    write_model(folder, meta.trained("float32", {}), model.state_dict())


@pytest.fixture(scope="module", autouse=True)
def written_once() -> Iterator[None]:
    with onnx_files_written_once():
        yield


def run_export(folder: Path, kind: InputKindName, **changes: Any) -> dict[str, Any]:
    params = kind_params(kind) | {"exports": ["small"]}
    params["export"] |= {"reduce_range": True, "max_int8_drop_points": 5.0} | changes
    data = folder / "data"
    at = (data / "prepare", data / "train_student", data / "export", folder / "reports/export", folder / "work")
    stage.main("small", write_params(folder, params), *at)
    report: dict[str, Any] = read_json(folder / "reports/export/small.json", made_by="export")
    return report


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InputKindName]:
    """Returns a folder with a student of a kind, exported, and the kind."""
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    write_kind(folder / "data/prepare", kind)
    train(folder / "data/train_student/small", folder / "data/prepare", kind)
    run_export(folder, kind)
    return folder, kind


def test_the_files_predict_what_torch_predicts(exported: tuple[Path, InputKindName]) -> None:
    folder, _ = exported
    model = read_model(folder / "data/train_student/small", made_by="train_student@small")
    test = ImageDataset(folder / "data/prepare").split("test")
    with torch.no_grad():
        exact = model(test.inputs)
    portable = model.portable()
    for at_once in (1, 7, 60):
        batches = map(portable.taken, test.inputs.split(at_once))
        found = run_onnx(folder / "data/export/small/model.onnx", batches)
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    report = read_json(folder / "reports/export/small.json", made_by="export")
    assert report["left_out"] == {}
    assert report["files"]["model.onnx"]["top1_agreement"] == 1.0
    assert report["torch"]["accuracy"] > 0.9
    assert report["files"]["model_int8.onnx"]["accuracy"] > 0.85
    assert all(row["latency_ms"]["one"]["p50"] > 0 for row in report["files"].values())


def test_the_cost_of_a_student_in_torch_is_measured_as_well(exported: tuple[Path, InputKindName]) -> None:
    folder, _ = exported
    found = measure_cost("torch", folder / "data/train_student/small", repeats=2, warmup=1)
    assert found.latency_ms["one"]["p50"] > 0


def test_the_files_say_what_they_take(exported: tuple[Path, InputKindName]) -> None:
    folder, kind = exported
    manifest = ImageDataset(folder / "data/prepare").manifest
    for name in ("model.onnx", "model_int8.onnx"):
        model = onnx.load(folder / "data/export/small" / name)
        (given,) = model.graph.input
        assert given.type.tensor_type.elem_type == FORMATS[kind]
        sizes = [size.dim_param or size.dim_value for size in given.type.tensor_type.shape.dim]
        assert sizes == ["batch", "tokens" if kind == "tokens" else manifest.input_shape[0]]
        about = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
        assert about["class_names"] == CLASSES
        assert about["input_shape"] == manifest.image_shape
        assert manifest.input is not None
        assert about["input"].items() >= manifest.input.items()
        assert "image_shape" not in about


def test_the_front_end_of_sounds_stays_in_float32(exported: tuple[Path, InputKindName]) -> None:
    folder, kind = exported
    report = read_json(folder / "reports/export/small.json", made_by="export")
    assert report["int8"]["float32_layers"] == []
    assert report["int8"]["others"] == (["its front end"] if kind == "waveform" else [])
    graph = onnx.load(folder / "data/export/small/model_int8.onnx").graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}


@pytest.mark.parametrize("exported", ["waveform", "row"], indirect=True)
def test_a_network_that_learns_to_be_in_int8_computes_what_its_file_does(exported: tuple[Path, InputKindName]) -> None:
    folder, _ = exported
    inputs = ImageDataset(folder / "data/prepare").split("test").inputs
    for name in ("model.onnx", "model_int8.onnx"):
        path = folder / "data/export/small" / name
        fake = FakeInt8(onnx.load(path), {}, bits=7)
        with torch.no_grad():
            found, expected = fake(inputs), run_onnx(path, [inputs])
        assert (found - expected).abs().max() < 0.1 * expected.abs().max()
        assert CATEGORICAL.agreement(found, expected) > 0.95
    F.cross_entropy(fake(inputs), torch.zeros(60, dtype=torch.int64)).backward()
    assert all(parameter.grad is not None for parameter in fake.parameters())


def test_forms_that_a_kind_has_not_are_left_out_with_the_reason(exported: tuple[Path, InputKindName]) -> None:
    folder, kind = exported
    data = folder / "data"
    settings = replace(load_section(Export, "export", folder / "params.yaml"), int8=False, executorch=True)
    model, meta = (
        read(data / "train_student/small", made_by="train_student@small") for read in (read_model, read_meta)
    )
    facts = AwareInt8(weight_bits=8, num_steps=1, num_checked=1, agreement=1.0)
    samples = samples_for(ImageDataset(data / "prepare"), settings)
    (folder / "other").mkdir()
    forms = write_forms(folder / "other", model, meta, samples, settings, lambda *arguments: facts)
    things = INPUT_KINDS[kind].things
    assert forms.left_out.pop("model.pte").endswith(f"for images alone, not for {things}")
    assert (forms.aware is None) == (kind == "tokens")
    assert list(forms.left_out) == (["model_int8_aware.onnx"] if kind == "tokens" else [])


def predicted(folder: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs an exported script as on a machine without the project."""
    command = [sys.executable, "-I", "predict.py", *arguments]
    return subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True)


def shown(logits: torch.Tensor) -> list[str]:
    """Returns the lines that a script prints for logits."""
    probs = logits.double().softmax(dim=0)
    return [f"{probs[index]:7.2%}  {CLASSES[index]}" for index in probs.argsort(descending=True).tolist()]


def of_sample(kind: InputKindName, folder: Path, inputs: np.ndarray) -> list[str]:
    """Returns the arguments by which a script is given a sample."""
    if kind == "tokens":
        return [" ".join(VOCABULARY[number - FIRST_WORD] for number in inputs if number)]
    if kind == "waveform":
        soundfile.write(folder / "one.wav", inputs, RATE_HZ, subtype="PCM_16")
        return ["one.wav"]
    cells = {}
    for column, code in zip(COLUMNS, inputs.tolist(), strict=True):
        if code and column["type"] == "number":
            cells[column["name"]] = column["values"][code - 1]
        elif code:
            cells[column["name"]] = (None, "never seen", *column["names"])[code]
    return [json.dumps(cells)] if len(cells) % 2 else [f"{name}={value}" for name, value in cells.items()]


def test_the_script_predicts_what_torch_predicts(exported: tuple[Path, InputKindName], tmp_path: Path) -> None:
    folder, kind = exported
    alone = Path(shutil.copytree(folder / "data/export/small", tmp_path / "alone"))
    model = read_model(folder / "data/train_student/small", made_by="train_student@small")
    test = ImageDataset(folder / "data/prepare").split("test")
    for row in (0, 1, 5):
        with torch.no_grad():
            expected = shown(model(test.inputs[row : row + 1])[0])
        done = predicted(alone, *of_sample(kind, alone, test.inputs[row].numpy()))
        assert done.stderr == ""
        assert done.stdout.splitlines() == expected
    quantised = predicted(alone, *of_sample(kind, alone, test.inputs[0].numpy()), "model_int8.onnx")
    assert quantised.returncode == 0
    assert len(quantised.stdout.splitlines()) == len(CLASSES)


def test_a_script_without_a_sample_says_how_it_is_called(exported: tuple[Path, InputKindName]) -> None:
    folder, _ = exported
    done = predicted(folder / "data/export/small")
    assert done.returncode == 1
    assert "python predict.py" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("exported", ["tokens"], indirect=True)
def test_a_text_comes_as_an_argument_a_file_or_by_stdin(exported: tuple[Path, InputKindName], tmp_path: Path) -> None:
    folder, _ = exported
    alone = Path(shutil.copytree(folder / "data/export/small", tmp_path / "alone"))
    text = "the  boat\n is of a kind that nobody knew"  # with words that words.txt lacks
    (alone / "letter.txt").write_text(text)
    ways = [predicted(alone, text), predicted(alone, "letter.txt"), predicted(alone, "-", text=text)]
    assert {done.stdout for done in ways} == {ways[0].stdout}
    assert ways[0].stdout.splitlines()[0].endswith(CLASSES[0])
    empty = predicted(alone, " \n")
    assert (empty.returncode, empty.stderr) == (1, "the text has no words\n")
