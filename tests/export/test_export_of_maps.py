"""The export of a network that gives a class at each pixel: parity in its own figures, in int8,
too, and an example that draws the classes.
"""

import json
import runpy
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from maps import GRID, NUM_CLASSES, make_maps, unet
from PIL import Image

from pipeline.core.closure import TOP
from pipeline.core.config import load_section
from pipeline.export import measure
from pipeline.export.fake_int8 import FakeInt8
from pipeline.export.measure import measure_forms, summary
from pipeline.export.onnx_file import run_onnx
from pipeline.export.quantization import Form, quantiser
from pipeline.export.settings import Export
from pipeline.export.trials import Samples
from pipeline.export.write import write_forms
from pipeline.models import Classifier
from pipeline.models.saved import ModelMeta
from pipeline.results.costs import Cost
from pipeline.results.export import ExportReport
from pipeline.signals import thinning

NAMES = ["ground", "grey", "bright"]
#: Not one trial more than needs be: each writes a file.
SETTINGS = replace(
    load_section(Export, "export", TOP / "params.yaml"),
    num_calibration_images=32,
    max_int8_drop_points=5.0,
    reduce_range=True,
)
UNET = {"widths": [4, 8], "depth": 1, "up": "transposed"}
META = ModelMeta("unet_small", UNET, NAMES, [1, 8, 8], [0.4], [0.3], {}, "", {}, signal="grid")
TEST = make_maps(50, seed=1)


class Exported(NamedTuple):
    """A folder with the files of a network, the network, and the report of them."""

    folder: Path
    model: Classifier
    report: ExportReport


def trained() -> Classifier:
    """Returns a U-Net that has learned the made-up maps, more or less."""
    model, split = unet(up="transposed").train(), make_maps(64)
    optimizer = torch.optim.AdamW(model.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        GRID.hard_loss(model(split.inputs), split.hard_labels, 0.0).mean().backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder, model, train = tmp_path_factory.mktemp("maps"), trained(), make_maps(32)
    samples = Samples(train, train, make_maps(40, seed=2), GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "measure_cost", lambda *arguments: Cost(1, {"one": {"p50": 1.0, "p95": 1.0}}, 1, 1))
        forms = write_forms(folder, model, META, samples, SETTINGS)
        return Exported(folder, model, measure_forms(folder, "small", model, TEST, SETTINGS, forms))


def test_figures_are_those_of_pixels(exported: Exported) -> None:
    report = exported.report
    assert list(report.files) == ["model.onnx", "model_int8.onnx"]
    with torch.no_grad():
        exact = exported.model(TEST.inputs)
    for file, row in report.files.items():
        found = run_onnx(exported.folder / file, [TEST.inputs])
        assert found.shape == (50, NUM_CLASSES, 8, 8)
        assert row.headline == pytest.approx(GRID.score(found, TEST.hard_labels))
        assert row.top1_agreement == pytest.approx((found.argmax(1) == exact.argmax(1)).double().mean().item())
        p, q = (each.double().softmax(dim=1) for each in (exact, found))
        assert row.kl_to_torch == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-2, abs=1e-7)
        assert row.largest_difference == pytest.approx((found - exact).abs().max().item())
    assert report.files["model.onnx"].relative_difference < 1e-4
    assert report.torch.headline == pytest.approx(GRID.score(exact, TEST.hard_labels))
    assert report.torch.headline > 0.7
    first = next(iter(summary(report, SETTINGS)))
    assert f"mean IoU {report.files['model.onnx'].score:.2%}; model_int8.onnx" in first


def test_the_whole_network_is_in_int8_and_says_nearly_the_same(exported: Exported) -> None:
    report = exported.report
    assert report.int8 is not None
    assert (report.int8.weights_alone, report.int8.float32_layers) == (False, [])
    assert report.files["model_int8.onnx"].top1_agreement > 0.95
    kinds = {node.op_type for node in onnx.load(exported.folder / "model_int8.onnx").graph.node}
    assert {"ConvTranspose", "Concat", "QuantizeLinear"} <= kinds


def test_fewer_positions_stand_for_all_where_all_are_too_many(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thinning, "MOST_VALUES", 50 * NUM_CLASSES * 16)
    monkeypatch.setattr(measure, "measure_cost", lambda *arguments: Cost(1, {"one": {"p50": 1.0, "p95": 1.0}}, 1, 1))
    report = measure_forms(exported.folder, "small", exported.model, TEST, SETTINGS, measure.Forms())
    found = run_onnx(exported.folder / "model.onnx", [TEST.inputs])[:, :, ::2, ::2]
    assert report.files["model.onnx"].headline == pytest.approx(GRID.score(found, TEST.hard_labels[:, ::2, ::2]))


def test_what_is_trained_in_int8_is_what_the_file_computes(exported: Exported, tmp_path: Path) -> None:
    source, path = exported.folder / "model.onnx", tmp_path / "int8.onnx"
    with quantiser(source, make_maps(32).inputs) as network:
        model = network.quantised(path, Form(whole=True, bits=7))
        network.save(path, model)
        fake = FakeInt8(model, network.weights, bits=7)
    assert any("ConvTranspose" in node.op_type for node in model.graph.node)
    with torch.no_grad():
        found, trained_here = run_onnx(path, [TEST.inputs]), fake(TEST.inputs)
    assert GRID.agreement(found, trained_here) > 0.95
    GRID.hard_loss(fake(TEST.inputs), TEST.hard_labels, 0.0).mean().backward()
    assert all(parameter.grad is not None for parameter in fake.parameters())


def test_the_example_prints_the_share_of_each_class_and_draws_them(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.fromarray(TEST.inputs[3, 0].numpy()).save(tmp_path / "images/scene.png")
    runpy.run_path(str(exported.folder / "predict.py"))["main"]("images/scene.png")
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["scene.png"]  # else prepare finds another image
    with torch.no_grad():
        classes = exported.model(TEST.inputs[3:4]).argmax(dim=1)[0].numpy()
    *shares, last = capsys.readouterr().out.splitlines()
    count = {name: int((classes == number).sum()) for number, name in enumerate(NAMES)}
    ranked = sorted((name for name in NAMES if count[name]), key=lambda name: -count[name])
    assert shares == [f"{count[name] / 64:7.2%}  {name}" for name in ranked]
    assert last == "scene_classes.png: the number of the class at each pixel, 8 x 8"
    with Image.open(tmp_path / "scene_classes.png") as drawn:
        assert drawn.mode == "P"
        assert np.array_equal(np.asarray(drawn), classes)
        colours = np.asarray(drawn.convert("RGB")).reshape(-1, 3)
    assert len({tuple(colour) for colour in colours.tolist()}) == len(ranked) > 1


def test_every_file_says_that_classes_are_those_of_pixels(exported: Exported) -> None:
    entries = onnx.load(exported.folder / "model_int8.onnx").metadata_props
    assert json.loads({entry.key: entry.value for entry in entries}["signal"]) == "grid"
    assert asdict(exported.report)["headline_words"] == "mean IoU"
