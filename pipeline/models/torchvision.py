"""Networks of torchvision, `torchvision/<name>`; the one file that imports it."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.core.errors import ModelError, suggest
from pipeline.models.weights import Weights

CHANNELS = 3


def build(name: str, settings: Mapping[str, Any], num_outputs: int) -> nn.Module:
    """Returns an untrained classifier.

    Raises ModelError where torchvision does not know it or can't build it.
    """
    models = _library(name)
    short = _short(name, models)
    try:
        network: nn.Module = models.get_model(short, weights=None, num_classes=num_outputs, **settings)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {name!r}", f"can't be built with {dict(settings)} ({error})") from None
    return network


def published(name: str, settings: Mapping[str, Any]) -> Weights:
    """Returns its best published weights, which are downloaded once, and the images that they want.

    Raises ModelError where they can't be had.
    """
    models = _library(name)
    short = _short(name, models)
    weights = models.get_model_weights(short).DEFAULT
    try:
        # The whole network, because torchvision renames some tensors as it loads them.
        network = models.get_model(short, weights=weights, progress=False, **settings)
    except Exception as error:  # whatever a download, its file and the settings may raise
        reason = f"published weights can't be had ({type(error).__name__}: {error})"
        fix = f"download {weights.url} elsewhere and name the file in `weights`"
        raise ModelError(f"model {name!r}", reason, fix=fix) from None
    names, images = list(weights.meta["categories"]), weights.transforms()
    size = images.crop_size[0]
    return Weights(
        network.state_dict(),
        f"published weights of {name}",
        num_outputs=len(names),
        class_names=names,
        mean=list(images.mean),
        std=list(images.std),
        size_px=[size, size],
    )


def downloaded() -> dict[str, int]:
    """Returns the networks whose published weights are on this machine, and the bytes of each."""
    import torch

    folder = Path(torch.hub.get_dir(), "checkpoints")
    files = {path.name: path.stat().st_size for path in folder.glob("*.pth")} if folder.is_dir() else {}
    if not files:
        return {}
    models = _library("torchvision/")
    urls = {name: models.get_model_weights(name).DEFAULT.url for name in models.list_models(module=models)}
    names = {name: url.rpartition("/")[2] for name, url in urls.items()}
    return {f"torchvision/{name}": files[file] for name, file in names.items() if file in files}


def _library(name: str) -> ModuleType:
    try:
        from torchvision import models
    except ImportError as error:
        fix = "install the extra `pipeline` (`make repro` does)"
        raise ModelError(f"model {name!r}", f"torchvision can't be imported ({error})", fix=fix) from None
    module: ModuleType = models
    return module


def _short(name: str, models: ModuleType) -> str:
    """Returns the name as torchvision has it."""
    short = name.partition("/")[2]
    known = models.list_models(module=models)  # classifiers only, not detectors and the like
    if short not in known:
        raise ModelError(f"model {name!r}", "unknown to torchvision", expected=suggest(short, known))
    return short
