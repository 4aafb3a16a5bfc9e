"""Small families of networks, trained from nothing on a processor: those for images of some tens of
pixels, and the table of all.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from pipeline.core.bounds import Channels, Layers
from pipeline.core.config import validate
from pipeline.core.errors import ModelError, suggest
from pipeline.core.memory import machine_bytes
from pipeline.core.shortage import in_gigabytes
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName
from pipeline.models.blocks import conv_norm_relu
from pipeline.models.row_families import deepfm_small, mlp_small
from pipeline.models.text_families import bag_small, textconv_small, transformer_small
from pipeline.models.unet import unet_small

Stages = Annotated[
    list[Annotated[list[Channels], Field(min_length=1, max_length=1000)]], Field(min_length=1, max_length=1000)
]


class _ResidualBlock(nn.Module):
    """A block of two 3 x 3 convolutions beside a shortcut.

    It starts as the shortcut alone: the last norm's scale is 0.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm_relu(inputs, outputs, stride)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm.weight)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(features) + self.norm(self.second(self.first(features))), inplace=True)


def resnet_small(num_classes: int, channels: int, *, width: Channels, depth: Layers) -> nn.Module:
    """Returns a residual network for small images.

    A stem of `width` channels at full size, then three stages of `depth` blocks with 1, 2 and 4
    times `width` channels at a half, a quarter and an eighth of the size.

    References:
        Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, "Deep Residual Learning for Image
        Recognition", 2015, arXiv 1512.03385, section 3. Priya Goyal et al., "Accurate, Large
        Minibatch SGD", 2017, arXiv 1706.02677, section 5.1 (the zero scale).
    """
    layers: list[nn.Module] = [conv_norm_relu(channels, width, 1)]
    inputs = width
    for stage in range(3):
        for block in range(depth):
            outputs = width << stage
            layers.append(_ResidualBlock(inputs, outputs, 2 if block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


def convnet_small(num_classes: int, channels: int, *, width: Channels, depth: Layers) -> nn.Module:
    """Returns a plain convolutional network that is cheap to train.

    It starts at a half of the image's size with `width` channels and halves the size twice more
    while doubling the channels, `depth` convolutions at each size.
    """
    layers: list[nn.Module] = []
    inputs = channels
    for stage in range(3):
        for block in range(depth):
            outputs = width << stage
            layers.append(conv_norm_relu(inputs, outputs, 2 if block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


def vgg_small(num_classes: int, channels: int, *, stages: Stages) -> nn.Module:
    """Returns a plain network of 3 x 3 convolutions with max-pooling between its stages.

    `stages` lists the channels of each convolution, stage by stage. Pooling comes before norm
    and ReLU, which then have a quarter of the values to pass.

    References:
        Karen Simonyan, Andrew Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", 2014, arXiv 1409.1556, section 2.
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
    "unet_small": unet_small,
    "vgg_small": vgg_small,
    "bag_small": bag_small,
    "textconv_small": textconv_small,
    "transformer_small": transformer_small,
    "mlp_small": mlp_small,
    "deepfm_small": deepfm_small,
}
#: Those for inputs that are no images; sounds come to their network as images of one channel.
_OF_OTHERS: dict[str, InputKindName] = {
    "bag_small": "tokens",
    "textconv_small": "tokens",
    "transformer_small": "tokens",
    "mlp_small": "row",
    "deepfm_small": "row",
}
#: What the networks of libraries take.
_OF_LIBRARIES: dict[str, InputKindName] = {"torchvision": "image", "timm": "image", "hf": "tokens"}
#: Those that give logits at each pixel; the others give them for an image.
AT_PIXELS = ("unet_small",)


#: What a network is told of its inputs: the channels of images (of sounds 1), the tokens of a
#: vocabulary, the codes of each column of rows.
InputSize = int | Sequence[int]


def families_for(kind: InputKindName) -> list[str]:
    """Returns the families that take inputs of a kind."""
    return [name for name in FAMILIES if _OF_OTHERS.get(name, "image") == _taken(kind)]


def _taken(kind: InputKindName) -> InputKindName:
    """Returns the kind of inputs that a network sees: of sounds it sees spectra, as images."""
    return "image" if kind == "waveform" else kind


def check_kind(name: str, kind: InputKindName) -> None:
    """Raises ModelError where one of `FAMILIES`, or a library's network, is for inputs of another
    kind.
    """
    library = name.partition("/")[0]
    own = _OF_OTHERS.get(name, "image") if name in FAMILIES else _OF_LIBRARIES.get(library)
    if own is not None and own != _taken(kind):
        fitting, things = families_for(kind), INPUT_KINDS[own].things
        found, fix = f"is for {things}, and the data is {INPUT_KINDS[kind].things}", "or a file of your own"
        raise ModelError(f"model {name!r}", found, expected=", ".join(fitting), fix=fix)


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raises ModelError or ConfigError where a setting of one of `FAMILIES` is unknown, missing or
    ill-typed.
    """
    parameters = inspect.signature(FAMILIES[name]).parameters
    known = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    if unknown := [key for key in settings if key not in known]:
        raise ModelError(f"model {name!r}", f"unknown setting {unknown[0]!r}", expected=suggest(unknown[0], known))
    if missing := [key for key in known if key not in settings]:
        raise ModelError(f"model {name!r}", f"setting {missing[0]!r} is missing", expected=", ".join(known))
    for key, value in settings.items():
        validate(parameters[key].annotation, value, f"model {name!r}: {key}")


def build(name: str, settings: Mapping[str, Any], num_outputs: int, size: InputSize) -> nn.Module:
    """Returns a network of one of `FAMILIES`.

    Raises what `check_settings` raises, and ModelError where its weights alone are larger than this
    machine's memory.
    """
    check_settings(name, settings)
    with torch.device("meta"):  # of which tensors have a size and no memory: 5 ms
        tensors = FAMILIES[name](num_outputs, size, **settings).state_dict().values()
    if (needed := sum(tensor.nbytes for tensor in tensors)) > (there := machine_bytes()):
        found, fix = f"its weights take {in_gigabytes(needed)} of memory", f"a smaller one: {', '.join(settings)}"
        raise ModelError(f"model {name!r}", found, expected=f"less than the {in_gigabytes(there)} here", fix=fix)
    return FAMILIES[name](num_outputs, size, **settings)
