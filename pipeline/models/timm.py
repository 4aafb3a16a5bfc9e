"""Networks of timm, `timm/<name>` or `timm/<name>.<tag>`; the one file that imports it."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.core.errors import ModelError, suggest
from pipeline.models.weights import Weights


def channels(settings: Mapping[str, Any]) -> int:
    """Returns the number of channels that its images have."""
    return int(settings.get("in_chans", 3))


def build(name: str, settings: Mapping[str, Any], num_outputs: int) -> nn.Module:
    """Returns an untrained classifier.

    Raises ModelError where timm does not know it or can't build it.
    """
    timm = _library(name)
    try:
        network: nn.Module = timm.create_model(
            _short(name, timm), pretrained=False, num_classes=num_outputs, **settings
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ModelError(f"model {name!r}", f"can't be built with {dict(settings)} ({error})") from None
    return network


def published(name: str, settings: Mapping[str, Any]) -> Weights:
    """Returns its published weights, which are downloaded once, and the images that they want.

    Raises ModelError where they can't be had.
    """
    timm = _library(name)
    short = _short(name, timm)
    try:
        network = timm.create_model(short, pretrained=True, **settings)
    except Exception as error:  # whatever a download, its file and the settings may raise
        reason = f"published weights can't be had ({type(error).__name__}: {error})"
        fix = "name another tag, or download them elsewhere and name the file in `weights`"
        raise ModelError(f"model {name!r}", reason, fix=fix) from None
    images = timm.data.resolve_model_data_config(network)
    mean, std = (list(images[key]) for key in ("mean", "std"))
    if channels(settings) == 1:  # timm sums up the weights over the channels, so that grey is one of all
        mean, std = ([sum(values) / len(values)] for values in (mean, std))
    size = settings.get("img_size", images["input_size"][1:])
    return Weights(
        network.state_dict(),
        f"published weights of {name}",
        num_outputs=network.num_classes,
        class_names=_class_names(timm, network),
        mean=mean,
        std=std,
        size_px=[size, size] if isinstance(size, int) else list(size),
    )


def downloaded() -> dict[str, int]:
    """Returns the networks whose published weights are on this machine, and the bytes of each.

    They are where Hugging Face's library keeps them.
    """
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    found = {}
    for path in sorted(folder.glob("models--timm--*/snapshots/*/model.safetensors")):
        found["timm/" + path.parents[2].name.removeprefix("models--timm--")] = path.stat().st_size
    if not found:
        return {}
    timm = _library("timm/")
    return {name: size for name, size in found.items() if timm.is_model(name.partition("/")[2])}


def _class_names(timm: ModuleType, network: nn.Module) -> list[str] | None:
    """Returns the names of its outputs, where timm knows them: the first of several synonyms."""
    config: Any = network.pretrained_cfg
    if names := config.get("label_names"):
        described = config.get("label_descriptions") or {}
        return [str(described.get(name, name)).partition(",")[0] for name in names]
    if not (subset := timm.data.infer_imagenet_subset(network)):
        return None
    known = timm.data.ImageNetInfo(subset)
    return [known.index_to_description(number).partition(",")[0] for number in range(known.num_classes())]


def _library(name: str) -> ModuleType:
    try:
        import timm
        import timm.data
    except ImportError as error:
        fix = "install the extra `teachers` (`pip install -c constraints.txt .[teachers]`)"
        raise ModelError(f"model {name!r}", f"timm can't be imported ({error})", fix=fix) from None
    module: ModuleType = timm
    return module


def _short(name: str, timm: ModuleType) -> str:
    """Returns the name as timm has it."""
    short = name.partition("/")[2]
    if not timm.is_model(short):
        raise ModelError(f"model {name!r}", "unknown to timm", expected=suggest(short, timm.list_models()))
    return short
