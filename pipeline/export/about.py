"""The metadata in exported files, the weights in a file that has it, and the script that runs a
file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save

from pipeline.core.files import write_bytes
from pipeline.core.tensors import apart
from pipeline.data.input_kinds import InputKindName
from pipeline.models.saved import ModelMeta

KEY = "potstill"


def file_metadata(meta: ModelMeta, facts: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Returns what a file's input must be and what its output means, as JSON by name.

    `image_shape` is channels, height and width of its input. `mean`, `std` (in units of 255 pixel
    levels) and `size_px` describe what the network itself does with the pixels. Samples of another
    kind have in their place `input_shape` and `input`: what the data set states about them, and
    what of a network's own settings decides how its input is made. Without a `signal`, outputs are
    logits of one class of several.

    Args:
        facts: Those of `Portable`.
    """
    content = {
        "class_names": meta.class_names,
        **(_of_pixels(meta) if meta.input is None else {}),
        "model": meta.model,
        "model_settings": meta.model_settings,
        "settings": meta.settings,
        **({} if meta.signal == "categorical" else {"signal": meta.signal}),
    }
    if meta.input is not None:
        content |= {"input_shape": meta.image_shape, "input": {**meta.input, **(meta.side or {}), **(facts or {})}}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in content.items()}


def _of_pixels(meta: ModelMeta) -> dict[str, Any]:
    return {"image_shape": meta.image_shape, "mean": meta.mean, "std": meta.std, "size_px": meta.size_px}


def write_weights(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> None:
    """Writes the tensors as one safetensors file, whose header has `about` under the key
    `potstill`.

    One key, because safetensors writes several keys in random order.
    """
    whole = json.dumps({name: json.loads(value) for name, value in about.items()}, ensure_ascii=False)
    write_bytes(path, save(apart(tensors), metadata={KEY: whole}))


def example_script(kind: InputKindName) -> bytes:
    """Returns a script that runs the ONNX files beside it on a sample of a kind."""
    return Path(_script(kind).__file__ or "").read_bytes()


def _script(kind: InputKindName) -> ModuleType:
    """Returns the script of a kind; importing it imports what it needs."""
    if kind == "tokens":
        from pipeline.export import predict_text

        return predict_text
    if kind == "waveform":
        from pipeline.export import predict_sound

        return predict_sound
    if kind == "row":
        from pipeline.export import predict_row

        return predict_row
    from pipeline.export import predict

    return predict
