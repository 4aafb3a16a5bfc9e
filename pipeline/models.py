"""Networks by name: our small families, and any torchvision classifier as `torchvision/<name>`.

Every network takes pixels (uint8) and gives logits: it carries its own normalisation, so the same views serve
networks that want different ones.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from pydantic import PositiveInt
from torch import nn

from pipeline.config import validate
from pipeline.errors import ModelError, suggest


class Classifier(nn.Module):
    """A network with the normalisation that it wants: pixels in 0 to 255 -> logits."""

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float], *, network_channels: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("pixel_mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("pixel_std", torch.tensor(std).view(1, -1, 1, 1) * 255)
        self._network_channels = network_channels

    def forward(
        self, pixels: UInt8[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch classes"]:
        images = pixels.to(torch.float32, memory_format=torch.channels_last)
        images = (images - self.pixel_mean) / self.pixel_std
        if images.shape[1] == 1 and self._network_channels > 1:
            images = images.expand(-1, self._network_channels, -1, -1).contiguous(memory_format=torch.channels_last)
        logits = self.network(images)
        if not isinstance(logits, torch.Tensor):
            raise ModelError("model", f"gives a {type(logits).__name__}", expected="one tensor of logits per batch")
        return logits.float()


def _conv_norm_relu(inputs: int, outputs: int, stride: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; starts as the shortcut alone (the last norm's scale is 0)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv_norm_relu(inputs, outputs, stride)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm.weight)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(features) + self.norm(self.second(self.first(features))), inplace=True)


def resnet_small(num_classes: int, channels: int, *, width: PositiveInt, depth: PositiveInt) -> nn.Module:
    """A residual network for small images: a stem of `width` at full size, then three stages of `depth` blocks with
    1, 2 and 4 times `width` channels at a half, a quarter and an eighth of the size.

    References:
        Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, "Deep Residual Learning for Image Recognition", 2015,
        arXiv 1512.03385, section 3.
        Priya Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv 1706.02677, section 5.1 (the zero scale).
    """
    layers: list[nn.Module] = [_conv_norm_relu(channels, width, 1)]
    inputs = width
    for stage in range(3):
        for block in range(depth):
            outputs = width << stage
            layers.append(_ResidualBlock(inputs, outputs, 2 if block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


def convnet_small(num_classes: int, channels: int, *, width: PositiveInt, depth: PositiveInt) -> nn.Module:
    """A plain convolutional network that is cheap to train: it starts at a half of the image's size with `width`
    channels and halves the size twice more while doubling the channels, `depth` convolutions at each size."""
    layers: list[nn.Module] = []
    inputs = channels
    for stage in range(3):
        for block in range(depth):
            outputs = width << stage
            layers.append(_conv_norm_relu(inputs, outputs, 2 if block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


def vgg_small(num_classes: int, channels: int, *, stages: list[list[PositiveInt]]) -> nn.Module:
    """A plain network of 3 x 3 convolutions with max-pooling between its stages; `stages` lists the channels of each
    convolution, stage by stage. Pooling comes before norm and ReLU, which then have a quarter of the values to pass.

    References:
        Karen Simonyan, Andrew Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
        arXiv 1409.1556, section 2.
    """
    layers: list[nn.Module] = []
    inputs = channels
    for number, stage in enumerate(stages):
        for position, outputs in enumerate(stage):
            layers.append(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False))
            if position == len(stage) - 1 and number < len(stages) - 1:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "convnet_small": convnet_small,
    "resnet_small": resnet_small,
    "vgg_small": vgg_small,
}
_TORCHVISION = "torchvision/"


def build_model(
    name: str,
    settings: Mapping[str, Any],
    *,
    num_classes: int,
    channels: int,
    mean: list[float],
    std: list[float],
    seed: int = 0,
) -> Classifier:
    """A network of `num_classes` outputs, initialised from `seed`, in channels-last order.

    Args:
        name: One of `FAMILIES`, or `torchvision/<name>` (imported only then; always three channels).
        settings: Keyword arguments of that family, such as `width` and `depth`.

    Raises:
        ModelError: The name or a setting is unknown, or the network can't be built.
        ConfigError: A setting is not of its type.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith(_TORCHVISION):
            network, network_channels = _build_torchvision(name, settings, num_classes), 3
        else:
            network, network_channels = _build_family(name, settings, num_classes, channels), channels
    classifier = Classifier(network, mean, std, network_channels=network_channels)
    return classifier.to(memory_format=torch.channels_last)


def _build_family(name: str, settings: Mapping[str, Any], num_classes: int, channels: int) -> nn.Module:
    if name not in FAMILIES:
        raise ModelError(f"model {name!r}", "unknown", expected=suggest(name, [*FAMILIES, f"{_TORCHVISION}<name>"]))
    family = FAMILIES[name]
    parameters = inspect.signature(family).parameters
    known = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    if unknown := [key for key in settings if key not in known]:
        raise ModelError(f"model {name!r}", f"unknown setting {unknown[0]!r}", expected=suggest(unknown[0], known))
    if missing := [key for key in known if key not in settings]:
        raise ModelError(f"model {name!r}", f"setting {missing[0]!r} is missing", expected=", ".join(known))
    for key, value in settings.items():
        validate(parameters[key].annotation, value, f"model {name!r}: {key}")
    return family(num_classes, channels, **settings)


def _build_torchvision(name: str, settings: Mapping[str, Any], num_classes: int) -> nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        mend = "install the extra `pipeline` (`make repro` does)"
        raise ModelError(f"model {name!r}", f"torchvision can't be imported ({error})", mend=mend) from None
    short = name.removeprefix(_TORCHVISION)
    known = models.list_models(module=models)  # classifiers only, not detectors and the like
    if short not in known:
        raise ModelError(f"model {name!r}", "unknown to torchvision", expected=suggest(short, known))
    try:
        network: nn.Module = models.get_model(short, weights=None, num_classes=num_classes, **settings)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {name!r}", f"can't be built with {dict(settings)} ({error})") from None
    return network


def load_weights(model: nn.Module, tensors: Mapping[str, torch.Tensor], where: object) -> None:
    """Fills `model`; raises ModelError with the first name or shape that does not fit."""
    expected = model.state_dict()
    for name in expected:
        if name not in tensors:
            raise ModelError(where, f"no tensor {name!r}", expected="the weights of this very network")
        if tensors[name].shape != expected[name].shape:
            found = f"{name} is {list(tensors[name].shape)}"
            raise ModelError(where, found, expected=f"{list(expected[name].shape)}: the weights of this very network")
    if extra := sorted(set(tensors) - set(expected)):
        raise ModelError(where, f"also holds {extra[0]!r}", expected="the weights of this very network")
    model.load_state_dict(dict(tensors))


def count_parameters(model: nn.Module) -> int:
    """Trained parameters (normalisation statistics are not counted)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, image_shape: list[int]) -> int:
    """Multiply-adds of convolutions and linear layers for one image."""
    from torch.utils.flop_counter import FlopCounterMode  # brings Triton with it, 74 MB that training does without

    was_training = model.training
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, *image_shape, dtype=torch.uint8))
    model.train(was_training)
    return int(counter.get_total_flops()) // 2
