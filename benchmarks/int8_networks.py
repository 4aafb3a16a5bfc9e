"""Common students in int8: what they lose, how small they are, which layers stay in float32.

    python -m benchmarks.int8_networks
    python -m benchmarks.int8_networks timm/test_vit torchvision/swin_t

Each network has fresh weights, and a head that is fitted to its features of handwritten digits.
"""

import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from jaxtyping import Float, Int64, UInt8
from torch import nn

from benchmarks.measure import report
from pipeline.core.config import load_section
from pipeline.core.errors import PipelineError, one_line_errors
from pipeline.data.splits import SplitInMemory
from pipeline.export.int8_file import write_int8
from pipeline.export.onnx_file import run_onnx, write_onnx
from pipeline.export.parity import compare
from pipeline.export.programs import trace
from pipeline.export.settings import Export
from pipeline.export.trials import Samples
from pipeline.models import Classifier, ClassifierSpec
from pipeline.results.export import Int8Layers
from pipeline.signals.metrics import accuracy

NETWORKS: dict[str, dict[str, Any]] = {
    "timm/test_vit": {"img_size": 32},
    "timm/test_convnext": {},
    "timm/convnext_atto": {},
    "timm/edgenext_xx_small": {},
    "timm/poolformer_s12": {},
    "timm/repvit_m0_9": {},
    "timm/mobilenetv4_conv_small": {},
    "timm/efficientvit_b0": {},
    "timm/fastvit_t8": {},
    "timm/mobilevitv2_050": {},
    "timm/deit_tiny_patch16_224": {"img_size": 32},
    "timm/coat_lite_tiny": {"img_size": 32},
    "timm/ghostnet_100": {},
    "torchvision/resnet18": {},
    "torchvision/mobilenet_v3_small": {},
    "torchvision/efficientnet_b0": {},
    "torchvision/shufflenet_v2_x0_5": {},
    "torchvision/regnet_y_400mf": {},
    "torchvision/convnext_tiny": {},
    "torchvision/swin_t": {},
}
SIDE, NUM_TRAIN, NUM_VAL = 32, 700, 400
_BATCH, _RIDGE, _SCALE = 50, 30.0, 10.0  # the fitted head's logits are its regression times the scale


@dataclass(frozen=True)
class Outcome:
    """A network in float32 and int8, over the test images; `int8` is the reason where there is
    none.

    `relative_difference` is that of the float32 file to torch, `torch_difference` that of torch to
    itself in float64: a head that is fitted to fresh features makes much of roundings.
    """

    relative_difference: float
    torch_difference: float
    float32_accuracy: float
    int8_accuracy: float | None
    size_ratio: float | None
    int8: Int8Layers | str
    seconds: float

    @property
    def drop_points(self) -> float | None:
        return None if self.int8_accuracy is None else 100 * (self.float32_accuracy - self.int8_accuracy)


def main(networks: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    settings = load_section(Export, "export")
    rows = [_row(name, measure(name, settings)) for name in networks or NETWORKS]
    report("int8_networks", f"{NUM_VAL} validation images, {len(digits()[2])} test images of {SIDE} px", rows)


def _row(name: str, found: Outcome) -> dict[str, Any]:
    row = {
        "network": name,
        "float32": found.float32_accuracy,
        "parity": found.relative_difference,
        "torch to float64": found.torch_difference,
    }
    row |= {"drop points": found.drop_points}
    row |= {"size": found.size_ratio, "seconds": found.seconds}
    if isinstance(found.int8, str):
        row |= {"layers": found.int8}
    else:
        rest = ", weights alone" if found.int8.weights_alone else ""
        row |= {"layers": f"{len(found.int8.float32_layers)} of {found.int8.num_layers} in float32{rest}"}
        row |= {"wholly in int8": found.int8.whole_drop_points}
    print(row, flush=True)
    return row


def measure(name: str, settings: Export) -> Outcome:
    """Returns what becomes of a network in float32 and int8."""
    train, val, test = digits()
    model = fitted(name, train)
    some = train.take(np.arange(0, len(train), 4))
    with TemporaryDirectory() as folder:
        float32, int8 = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        modules = write_onnx(float32, trace(model.portable(), train.inputs[:2]), {})
        exact = run_onnx(float32, test.inputs.split(_BATCH))
        outputs = _outputs(model, test.inputs)
        parity = compare(exact, outputs, test.hard_labels)
        own = compare(outputs, _outputs(deepcopy(model).double(), test.inputs), test.hard_labels)
        differences = parity.relative_difference, own.relative_difference
        start = time.monotonic()
        try:
            facts = write_int8(int8, float32, Samples(some, some, val), modules, settings)
        except PipelineError as error:
            return Outcome(*differences, parity.accuracy, None, None, str(error), time.monotonic() - start)
        seconds = time.monotonic() - start
        found = accuracy(run_onnx(int8, test.inputs.split(_BATCH)), test.hard_labels)
        ratio = int8.stat().st_size / float32.stat().st_size
        return Outcome(*differences, parity.accuracy, found, ratio, facts, seconds)


def digits() -> tuple[SplitInMemory, SplitInMemory, SplitInMemory]:
    """Returns the training, validation and test images: handwritten digits in three channels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) * 255 / 16
    inputs = F.interpolate(small, (SIDE, SIDE), mode="bilinear").to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    rows = (order[:NUM_TRAIN], order[NUM_TRAIN : NUM_TRAIN + NUM_VAL], order[NUM_TRAIN + NUM_VAL :])
    hard_labels = torch.from_numpy(labels)
    train, val, test = (
        SplitInMemory(inputs[some], hard_labels[some], np.arange(len(some), dtype=np.uint64)) for some in rows
    )
    return train, val, test


def fitted(name: str, train: SplitInMemory) -> Classifier:
    """Returns a network whose norms have seen the images, and whose last layer is the ridge
    regression of the classes on its features.
    """
    spec = ClassifierSpec(name, NETWORKS[name], num_classes=10, channels=3, mean=[0.19] * 3, std=[0.3] * 3)
    model = spec.build(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all that it sees
    model.train()
    _outputs(model, train.inputs[:200])
    model.eval()
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    features: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    _outputs(model, train.inputs)
    hook.remove()
    _fit(head, torch.cat(features), train.hard_labels)
    return model


def _fit(
    head: nn.Linear, features: Float[torch.Tensor, "samples width"], labels: Int64[torch.Tensor, " samples"]
) -> None:
    mean = features.double().mean(dim=0)
    centred = features.double() - mean
    scale = centred.square().mean().sqrt()
    targets = _SCALE * (F.one_hot(labels, head.out_features).double() - 1 / head.out_features)
    gram = centred.T @ centred + _RIDGE * scale**2 * torch.eye(len(mean), dtype=torch.float64)
    weights = torch.linalg.solve(gram, centred.T @ targets)
    with torch.no_grad():
        head.weight.copy_(weights.T)
        head.bias.copy_(-mean @ weights)


@torch.no_grad()
def _outputs(model: Classifier, inputs: UInt8[torch.Tensor, "images ..."]) -> Float[torch.Tensor, "images classes"]:
    return torch.cat([model(images) for images in inputs.split(_BATCH)])


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
