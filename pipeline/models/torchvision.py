"""Networks of torchvision, `torchvision/<name>`; the one file that imports it."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.core.errors import ModelError, suggest
from pipeline.models.weights import Weights

CHANNELS = 3
_WITH_HEADS = ("googlenet", "inception_v3")  # networks with more heads, which serve their training alone
_HEADS = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")


def build(name: str, settings: Mapping[str, Any], num_outputs: int) -> nn.Module:
    """Returns an untrained network: a classifier, or one that gives a class for each pixel.

    Raises ModelError where torchvision does not know it or can't build it.
    """
    models = _library(name)
    short = _short(name, models)
    try:
        network: nn.Module = models.get_model(
            short, weights=None, num_classes=num_outputs, **_with_one_head(short, settings, models)
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {name!r}", f"can't be built with {dict(settings)} ({error})") from None
    return network


def _with_one_head(short: str, settings: Mapping[str, Any], models: ModuleType) -> dict[str, Any]:
    """Returns the settings of a network without the heads that would give it several outputs.

    Raises ModelError where these are asked for.
    """
    for key in ("aux_logits", "aux_loss"):
        if settings.get(key):
            found = f"{key}: true gives several outputs"
            raise ModelError(f"model 'torchvision/{short}'", found, expected=f"{key}: false, or nothing of it")
    if short in _with_maps(models):
        return {**settings, "aux_loss": False, "weights_backbone": None}  # or they would be downloaded
    return {"init_weights": True, **settings, "aux_logits": False} if short in _WITH_HEADS else dict(settings)


def published(name: str, settings: Mapping[str, Any]) -> Weights:
    """Returns its best published weights, which are downloaded once, and the images that they want.

    Raises ModelError where they can't be had.
    """
    models = _library(name)
    short = _short(name, models)
    weights = models.get_model_weights(short).DEFAULT
    own = {key: value for key, value in settings.items() if not key.startswith("aux_")}  # with them, and no other way
    try:
        # The whole network, because torchvision renames some tensors as it loads them.
        network = models.get_model(short, weights=weights, progress=False, **own)
    except Exception as error:  # whatever a download, its file and the settings may raise
        reason = f"published weights can't be had ({type(error).__name__}: {error})"
        fix = f"download {weights.url} elsewhere and name the file in `weights`"
        raise ModelError(f"model {name!r}", reason, fix=fix) from None
    names, images = list(weights.meta["categories"]), weights.transforms()
    size = (images.resize_size if short in _with_maps(models) else images.crop_size)[0]
    mean, std = list(images.mean), list(images.std)
    if short in _WITH_HEADS and not settings.get("transform_input"):
        mean, std = [0.5] * CHANNELS, [0.5] * CHANNELS  # what transform_input makes of such images
    return Weights(
        {key: tensor for key, tensor in network.state_dict().items() if not key.startswith(_HEADS)},
        f"published weights of {name}",
        num_outputs=len(names),
        class_names=names,
        mean=mean,
        std=std,
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


def _with_maps(models: ModuleType) -> list[str]:
    """Returns the networks that give a class for each pixel."""
    return list(models.list_models(module=models.segmentation))


def _short(name: str, models: ModuleType) -> str:
    """Returns the name as torchvision has it."""
    short = name.partition("/")[2]
    known = [*models.list_models(module=models), *_with_maps(models)]  # not detectors and the like
    if short not in known:
        raise ModelError(f"model {name!r}", "unknown to torchvision", expected=suggest(short, known))
    return short
