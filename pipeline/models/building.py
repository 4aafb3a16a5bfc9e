"""The network that a name stands for, from wherever networks come."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import ModelError, suggest
from pipeline.core.shortage import is_out_of_memory, memory_asked
from pipeline.models import estimators, families, hf, onnx, timm, torchvision, user_file
from pipeline.models.classifier import Classifier, Outputs
from pipeline.models.families import InputSize
from pipeline.models.image_classifier import ImageClassifier
from pipeline.models.input_side import InputSide
from pipeline.models.output_kinds import OutputKind
from pipeline.models.weights import Weights
from pipeline.signals import SignalKind, signal_named

_TORCHVISION, _TIMM, _ONNX = "torchvision/", "timm/", "onnx/"
_OTHERS = (
    *("torchvision/<name>", "timm/<name>", "hf/<folder>", "onnx/<path>"),
    *("sklearn/<name>", "<path>.py:<function>"),
)


@dataclass(frozen=True)
class ClassifierSpec:
    """A classifier before it has weights: its network by name, the inputs, the outputs.

    Args:
        name: One of `FAMILIES`, `torchvision/<name>`, `timm/<name>`, `hf/<folder>`,
            `<path>.py:<function>`, `onnx/<path>` or an estimator's (estimators.py).
        settings: Keyword arguments of what builds the network, such as `width` and `depth`.
        channels: The channels of the images; `mean` and `std` are theirs, in units of 255 pixel
            levels.
        size_px: Height and width that the network wants, where it is not that of the images.
        side: What stands between samples that are no images and the network; images have the four
            above instead.
        groups: The network's outputs that stand for each class, where these are not the same.
        num_outputs: The outputs of the network, where they are not `num_classes`.
        outputs: Their kind.
        signal: The signal of the data.
    """

    name: str
    settings: Mapping[str, Any]
    _: KW_ONLY
    num_classes: int
    channels: int = 0
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    size_px: Sequence[int] | None = None
    groups: Sequence[Sequence[int]] | None = None
    num_outputs: int | None = None
    outputs: OutputKind = "logits"
    signal: SignalKind = "categorical"
    side: InputSide | None = None

    def build(self, seed: int = 0, file: Path | None = None) -> Classifier:
        """Returns the classifier, initialised from `seed`, in channels-last order.

        Args:
            file: The copy of the file that the name is about; None: that file itself.

        Raises:
            ModelError: The name or a setting is unknown, or the network can't be built.
            ConfigError: A setting is not of its type.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs = self.num_outputs or self.num_classes
            try:
                size = self.channels if self.side is None else self.side.size
                network, network_channels = build_network(self.name, self.settings, outputs, size, file)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                found, fix = f"building it asks for {memory_asked(error)}", "a smaller one, by model_settings"
                raise ModelError(f"model {self.name!r}", found, fix=fix) from error
        meaning = Outputs(self.groups, self.outputs, signal_named(self.signal))
        if self.side is not None:
            classifier = self.side.classifier(network, meaning)
            classifier.name = self.name
            return classifier
        assert isinstance(network_channels, int), "images have channels"
        classifier = ImageClassifier(
            network, self.mean, self.std, network_channels=network_channels, size_px=self.size_px, outputs=meaning
        )
        classifier.name = self.name
        return classifier.to(memory_format=torch.channels_last)


def build_network(
    name: str, settings: Mapping[str, Any], num_outputs: int, size: InputSize, file: Path | None = None
) -> tuple[nn.Module, InputSize]:
    """Returns the bare network, and the number of channels that its images have; of other inputs
    their `size`.

    Raises ModelError or ConfigError where it can't be built, or has a layer whose size is open.
    """
    network, network_channels = _build(name, settings, num_outputs, size, file)
    for key, tensor in (*network.named_parameters(), *network.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            found = f"{key} has no size before the first image (a lazy layer)"
            raise ModelError(f"model {name!r}", found, fix="give the layer its number of inputs")
    return network, network_channels


def _build(
    name: str, settings: Mapping[str, Any], num_outputs: int, size: InputSize, file: Path | None
) -> tuple[nn.Module, InputSize]:
    if name.startswith(_TORCHVISION):
        return torchvision.build(name, settings, num_outputs), torchvision.CHANNELS
    if name.startswith(_TIMM):
        return timm.build(name, settings, num_outputs), timm.channels(settings)
    if estimators.is_estimator(name):
        if file is None:
            raise ModelError(f"model {name!r}", "is not fitted", fix="take it as the teacher; it can't be a student")
        return estimators.EstimatorNetwork(file, name), size
    if hf.is_folder(name):
        assert isinstance(size, int), "texts have a number of tokens"
        return hf.build(name, settings, num_outputs, size, file), size
    if own := network_file(name):
        if name.startswith(_ONNX):
            network = onnx.OnnxNetwork(file or own, settings, name)
            return network, network.channels or size
        return user_file.build(name, settings, num_outputs, size, file or own), size
    check_settings(name, settings)
    return families.build(name, settings, num_outputs, size), size


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raises ModelError or ConfigError where a name is unknown, or a setting of a family of our own
    does not fit; what others take is known when they are built.
    """
    if (
        name.startswith((_TORCHVISION, _TIMM))
        or network_file(name)
        or hf.is_folder(name)
        or estimators.is_estimator(name)
    ):
        return
    if name not in families.FAMILIES:
        raise ModelError(f"model {name!r}", "unknown", expected=suggest(name, [*families.FAMILIES, *_OTHERS]))
    families.check_settings(name, settings)


def is_for_inference_alone(name: str) -> bool:
    """Returns whether a network comes trained and can't be trained on."""
    return name.startswith(_ONNX)


def is_fitted_at_once(name: str) -> bool:
    """Returns whether a network is an estimator, which has no steps of training."""
    return estimators.is_estimator(name)


def is_in_own_file(name: str) -> bool:
    """Returns whether what a network has learned is in its own file, beside empty weights."""
    return is_for_inference_alone(name) or is_fitted_at_once(name)


def published_weights(name: str, settings: Mapping[str, Any]) -> Weights:
    """Returns the weights that the library of this name offers.

    Raises ModelError where there are none or they can't be had.
    """
    if name.startswith(_TORCHVISION):
        return torchvision.published(name, settings)
    if name.startswith(_TIMM):
        return timm.published(name, settings)
    if hf.is_folder(name):
        return hf.published(name, settings)
    raise ModelError(f"model {name!r}", "has no published weights", expected=" or ".join(_OTHERS[:3]))


def downloaded_weights() -> dict[str, int]:
    """Returns the networks whose published weights are on this machine, and the bytes of each.

    A library that is not installed has none.
    """
    found: dict[str, int] = {}
    for library in (torchvision, timm):
        with suppress(ModelError):
            found |= library.downloaded()
    return found


def network_file(name: str) -> Path | None:
    """Returns the file that a network's name is about, if it is about one.

    Raises ModelError where the name is not whole.
    """
    if name.startswith(_ONNX):
        return Path(name.removeprefix(_ONNX))
    if estimators.is_estimator(name):
        return estimators.source_file(name)
    return user_file.source_file(name) if user_file.is_user_file(name) else None


def network_copy(name: str, folder: Path) -> Path | None:
    """Returns the place of a network's own file in the folder of its weights, if it has one."""
    if estimators.is_estimator(name):
        return folder / estimators.FILE
    if hf.is_folder(name):
        return folder / "network.json"
    file = network_file(name)
    return None if file is None else folder / f"network{'.onnx' if name.startswith(_ONNX) else '.py'}"


def source_files(name: str) -> list[Path]:
    """Returns every file that a network comes in; raises ModelError where one is not there."""
    if hf.is_folder(name):
        return hf.files(name)
    source = network_file(name)
    if source is None:
        return []
    if not source.is_file():
        raise ModelError(f"model {name!r}", f"{source}: no such file", expected="a path from the project's top folder")
    weights = onnx.beside(source, name) if name.startswith(_ONNX) else []
    for file in weights:
        if not file.is_file():
            found = f"{source.name} keeps weights in {file.name}, which is not beside it"
            raise ModelError(f"model {name!r}", found, fix=f"copy {file.name} into {file.parent}, too")
    return [source, *weights]


def copy_network_file(name: str, folder: Path) -> None:
    """Copies a network's own file, if it has one, into the folder of its weights.

    The folder then needs nothing else.
    """
    copy = network_copy(name, folder)
    for source in source_files(name)[:1]:
        assert copy is not None, "who has a file has a place for it"
        if hf.is_folder(name):
            hf.copy(name, copy)
        elif name.startswith(_ONNX):
            onnx.copy_whole(source, copy, name)
        else:
            shutil.copyfile(source, folder / estimators.OWN_CODE)


def own_tokenizer(name: str) -> Path | None:
    """Returns the tokenizer that a network comes with; None: it takes that of the data."""
    return hf.folder_of(name) / hf.TOKENIZER if hf.is_folder(name) else None


def head_names(
    name: str, settings: Mapping[str, Any], num_outputs: int, size: InputSize, file: Path | None = None
) -> frozenset[str]:
    """Returns the names of a bare network's head: the tensors whose shape follows the outputs.

    Raises ModelError where there are none.
    """
    with torch.random.fork_rng(devices=[]):
        one, other = (
            build_network(name, settings, count, size, file)[0].state_dict() for count in (num_outputs, num_outputs + 1)
        )
    head = frozenset(key for key in one if key not in other or one[key].shape != other[key].shape)
    if not head:
        raise ModelError(f"model {name!r}", "no tensor follows the number of classes", expected="a network with a head")
    return head
