"""The metadata in exported files, the weights in a file that has it, and the script that runs a
file.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from pipeline.core.files import write_bytes
from pipeline.core.tensors import apart
from pipeline.models.saved import ModelMeta

KEY = "potstill"


def file_metadata(meta: ModelMeta) -> dict[str, str]:
    """Returns what a file's input must be and what its output means, as JSON by name.

    `image_shape` is channels, height and width of its input. `mean`, `std` (in units of 255 pixel
    levels) and `size_px` describe what the network itself does with the pixels. Without a `signal`,
    outputs are logits of one class of several.
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
        **({} if meta.signal == "categorical" else {"signal": meta.signal}),
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in content.items()}


def write_weights(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> None:
    """Writes the tensors as one safetensors file, whose header has `about` under the key
    `potstill`.

    One key, because safetensors writes several keys in random order.
    """
    whole = json.dumps({name: json.loads(value) for name, value in about.items()}, ensure_ascii=False)
    write_bytes(path, save(apart(tensors), metadata={KEY: whole}))


def example_script() -> bytes:
    """Returns a script that runs the ONNX files beside it on an image."""
    from pipeline.export import predict  # which imports onnxruntime

    return Path(predict.__file__).read_bytes()
