"""Three teachers of CIFAR-10 that are not the project's own: overconfident, well calibrated, large.

They are of a plain wide residual network of nine layers, trained for seconds on a graphics card;
their recipes make them what they are called. `few_views` teaches students with them.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.progress import say
from pipeline.core.tensors import read_tensors, write_tensors
from pipeline.data.splits import SplitInMemory
from pipeline.signals.metrics import classification_metrics
from pipeline.teacher.calibration import fit_temperature

_BATCH_SIZE, _MOMENTUM = 512, 0.9
LABELLED = 4  # views
_PIXEL_MEAN, _PIXEL_STD = 120.0, 64.0


@dataclass(frozen=True)
class Kind:
    """A teacher's recipe.

    Args:
        augmented: It is trained on the cropped views; else on the images as they are, or mirrored.
    """

    width: int
    epochs: int
    augmented: bool
    label_smoothing: float
    weight_decay: float
    learning_rate: float = 0.4


KINDS = {
    "overconfident": Kind(
        width=64, epochs=20, augmented=False, label_smoothing=0.0, weight_decay=1e-5, learning_rate=0.2
    ),
    "calibrated": Kind(width=64, epochs=10, augmented=True, label_smoothing=0.02, weight_decay=5e-4),
    "large": Kind(width=128, epochs=12, augmented=True, label_smoothing=0.0, weight_decay=5e-4),
}


@dataclass(frozen=True)
class Taught:
    """A trained teacher: logits by view and sample, its figures, its calibration temperature."""

    logits: Tensor
    figures: dict[str, float]
    temperature: float


def _conv(inputs: int, outputs: int, *, pooled: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(2)] if pooled else []
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(width, width), _conv(width, width))

    def forward(self, features: Tensor) -> Tensor:
        grown: Tensor = features + self.layers(features)
        return grown


class Network(nn.Module):
    """The network, from pixels in 0 to 255 to logits."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(3, width),
            _conv(width, 2 * width, pooled=True),
            _Residual(2 * width),
            _conv(2 * width, 4 * width, pooled=True),
            _conv(4 * width, 8 * width, pooled=True),
            _Residual(8 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(8 * width, num_classes),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        images = pixels.to(torch.float32, memory_format=torch.channels_last)
        logits: Tensor = self.layers((images - _PIXEL_MEAN) / _PIXEL_STD)
        return 0.25 * logits.float()


def teach(name: str, recipe: Kind, views: Tensor, train: SplitInMemory, val: SplitInMemory, folder: Path) -> Taught:
    """Returns a teacher trained on a split, or the one that is kept in a folder.

    Args:
        views: The views [views, samples, ...] of the training split; the first `LABELLED` get
            labels.
        train: On the device, as `val` is.
    """
    device = train.inputs.device
    torch.manual_seed(0)
    network = Network(recipe.width, int(train.hard_labels.max()) + 1)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept = folder / f"{name}.safetensors"
    if kept.exists():
        network.load_state_dict(read_tensors(kept, made_by="benchmarks.few_views"))
    else:
        _train(network, recipe, views, train)
        write_tensors(kept, network.state_dict())
    hard_labels = train.hard_labels.to(device)
    held_out = _logits(network, val.inputs).cpu()
    logits = torch.stack([_logits(network, view) for view in views[:LABELLED]])
    right = (logits.argmax(dim=2) == hard_labels).double().mean()
    held_out_labels = val.hard_labels.cpu()
    temperature = fit_temperature(held_out, held_out_labels)
    figures = classification_metrics(held_out, held_out_labels) | {"on training views": float(right)}
    told = ", ".join(f"{what} {value:.4f}" for what, value in figures.items())
    say(f"teacher {name}: {told}, calibration temperature {temperature:.3f}")
    return Taught(logits, figures | {"calibration temperature": temperature}, temperature)


def _train(network: nn.Module, recipe: Kind, views: Tensor, train: SplitInMemory) -> None:
    labels = train.hard_labels.to(train.inputs.device)
    steps = max(1, len(labels) // _BATCH_SIZE)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=_MOMENTUM,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.25, cycle_momentum=False
    )
    for epoch in range(recipe.epochs):
        source = views[epoch % len(views)] if recipe.augmented else train.inputs
        order = torch.randperm(len(labels), device=labels.device)
        for rows in order.split(_BATCH_SIZE)[:steps]:
            images = source[rows]
            if not recipe.augmented and torch.rand(()) < 0.5:
                images = images.flip(3)
            with torch.autocast(labels.device.type, torch.bfloat16):
                logits = network(images)
            loss = F.cross_entropy(logits, labels[rows], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    network.eval()
    with torch.autocast(images.device.type, torch.bfloat16):
        logits = torch.cat([network(some) for some in images.split(1000)])
    network.train()
    return logits
