"""What an exported file says of itself, the weights in a file that says it, and how to use them."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from pipeline.core.files import write_bytes
from pipeline.models.saved import ModelMeta

KEY = "potstill"


def describe(meta: ModelMeta) -> dict[str, str]:
    """What a file wants and what it means, as JSON by name.

    `image_shape` is channels, height and width of its input. `mean`, `std` (in units of 255 pixel levels) and `size_px`
    tell what the network does with the pixels by itself.
    """
    content = {
        "class_names": meta.class_names,
        "image_shape": meta.image_shape,
        "mean": meta.mean,
        "std": meta.std,
        "size_px": meta.size_px,
        "model": meta.model,
        "model_settings": meta.model_settings,
        "settings": meta.settings,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in content.items()}


def write_weights(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> None:
    """The tensors as one safetensors file, whose header has `about` under the key `potstill`.

    Under one key, because safetensors writes several in an order of chance.
    """
    whole = json.dumps({name: json.loads(value) for name, value in about.items()}, ensure_ascii=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, metadata={KEY: whole}))


def example() -> bytes:
    """A script that runs the ONNX files beside it on an image."""
    from pipeline.export import predict  # which imports onnxruntime

    return Path(predict.__file__).read_bytes()
