"""Networks of any origin as ONNX files."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.export.libraries import ExportError
from pipeline.export.onnx_file import run_onnx, write_onnx
from pipeline.export.programs import trace
from pipeline.export.quantization import Form, quantiser
from pipeline.models import Classifier, ClassifierSpec

USER_FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels, picky):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(channels, 8, 3), nn.GroupNorm(2, 8), nn.Linear(16, classes)
        self.picky = picky

    def forward(self, images):
        if self.picky and images.mean() > 0:
            images = -images
        x = self.norm(self.conv(images)).contiguous(memory_format=torch.channels_last)
        return self.head(torch.cat([x.amax((2, 3)), nn.functional.silu(x).mean((2, 3))], 1))

def build(num_classes, channels, *, picky=False):
    return Net(num_classes, channels, picky)
"""
NETWORKS = {
    "convnet": ("convnet_small", {"width": 4, "depth": 2}, {}),
    "vgg": ("vgg_small", {"stages": [[4], [8, 8]]}, {}),
    "resnet, classes joined, resized": (
        "resnet_small",
        {"width": 4, "depth": 1},
        {"size_px": [20, 9], "groups": [[0, 4], [3], [1, 2, 5]], "num_outputs": 6},
    ),
    "torchvision, grey to colour, resized": ("torchvision/resnet18", {}, {"size_px": [40, 40]}),
    "timm, a transformer": ("timm/test_vit", {"img_size": 32}, {"size_px": [32, 32]}),
    "timm, layers that share a bias": ("timm/test_convnext", {}, {"size_px": [32, 32]}),
    "a user's file": ("net.py:build", {}, {}),
}


def random_images(count: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, channels, 4, 4), generator=generator).float()
    return F.interpolate(coarse, (14, 12), mode="bilinear").to(torch.uint8)


def build(name: str, settings: dict[str, Any], **form: Any) -> Classifier:
    """Returns a network of random weights whose norms have seen images, so that outputs differ."""
    model = ClassifierSpec(name, settings, num_classes=3, channels=1, mean=[0.4], std=[0.2], **form).build(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        model.train()(random_images(64, seed=1))
    return model.eval()


@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_of_any_origin_says_the_same_in_onnx(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(USER_FILE)
    name, settings, form = NETWORKS[case]
    torch.manual_seed(0)
    model, images = build(name, settings, **form), random_images(50)
    with torch.no_grad():
        expected = model(images)
    assert expected.std(dim=0).min() > 1e-3, "the images do not matter"
    write_onnx(tmp_path / "model.onnx", trace(model.portable(), images[:2]), {})
    with quantiser(tmp_path / "model.onnx", images) as network:
        network.write(tmp_path / "int8.onnx", Form(whole=True, bits=8))
    for size in (1, 7, 50):
        said = run_onnx(tmp_path / "model.onnx", images.split(size))
        torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-5)
    assert run_onnx(tmp_path / "int8.onnx", [images]).isfinite().all()


def test_a_network_that_no_graph_can_say_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(USER_FILE)
    model = build(f"{tmp_path}/net.py:build", {"picky": True})
    told = r"^model '.*net.py:build', line 12: can't be traced by torch\.export \(.*; choose by torch.where"
    with pytest.raises(ExportError, match=told) as caught:
        trace(model.portable(), random_images(2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["len(x)", "int(x.shape[0])", "len([one for one in x])"])
def test_code_that_fixes_the_size_of_a_batch_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    head = "self.head(torch.cat([x.amax((2, 3)), nn.functional.silu(x).mean((2, 3))], 1))"
    (tmp_path / "net.py").write_text(USER_FILE.replace(f"return {head}", f"return {head}.reshape({line}, -1)"))
    model = build(f"{tmp_path}/net.py:build", {})
    told = r"net.py:build', line 15: can't be traced: .* one size alone; write x.shape\[0\] in place of len\(x\)"
    with pytest.raises(ExportError, match=told):
        trace(model.portable(), random_images(2))
