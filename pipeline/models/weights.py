"""Weights that were made elsewhere: read without executing anything, put into a network or
refused.
"""

import pickle
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.core.errors import ModelError

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys that training scripts keep the weights under
_PREFIXES = ("module.", "_orig_mod.")  # of networks that were wrapped for several GPUs, or compiled
_OWN = "network."  # of weights that this project wrote, which are a Classifier's
_FIX = "save it again: torch.save(model.state_dict(), ...)"


@dataclass(frozen=True)
class Weights:
    """A bare network's tensors by name, and what its maker says of it (None: nothing).

    Attributes:
        where: The file, or how they are called.
        num_outputs: How many outputs the network has, and `class_names` what they mean.
        mean: Of the channels it wants, in units of 255 pixel levels; `std` alike.
        size_px: Height and width of the images that it wants.
        buffers: Those of the Classifier that it was part of.
    """

    tensors: Mapping[str, torch.Tensor]
    where: str
    num_outputs: int | None = None
    class_names: list[str] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    size_px: list[int] | None = None
    buffers: Mapping[str, torch.Tensor] = field(default_factory=dict)


def read_weights(path: Path) -> Weights:
    """Returns the weights in a `.safetensors`, `.pt` or `.pth` file that holds a state dict.

    Raises ModelError where the file is neither, or holds more than tensors: that would have to be
    executed.
    """
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    if not any(name.startswith(_OWN) for name in tensors) or "pixel_mean" not in tensors:
        return Weights(tensors, str(path))
    network = {name.removeprefix(_OWN): tensor for name, tensor in tensors.items() if name.startswith(_OWN)}
    buffers = {name: tensors[name] for name in ("pixel_mean", "pixel_std")}
    mean, std = ((tensor.double().flatten() / 255).tolist() for tensor in buffers.values())
    size_px = tensors["input_px"].tolist() if "input_px" in tensors else None
    return Weights(network, str(path), mean=mean, std=std, size_px=size_px, buffers=buffers)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        found = f"not a safetensors file ({_kind(path) or error})"
        raise ModelError(path, found, fix="give it the ending of what it is, or " + _FIX) from None


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix not in {".pt", ".pth", ".bin", ".ckpt"}:
        raise ModelError(path, f"ends in {path.suffix!r}", expected="a .safetensors, .pt or .pth file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript archives, which are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may raise anything
        found = f"can't be read as weights ({_kind(path) or _reason(error)})"
        if isinstance(error, pickle.UnpicklingError) and not _kind(path):
            found = f"holds more than tensors, or is damaged, and was not executed ({_reason(error)})"
        raise ModelError(path, found, expected="a state dict", fix=_FIX) from None
    return _state_dict(content, path)


def _kind(path: Path) -> str:
    """Returns what a file seems to be by its first bytes, or an empty text."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PK"):
        return "it looks like a .pt file" if path.suffix == ".safetensors" else ""
    if start[:1] == b"\x80" and path.suffix == ".safetensors":
        return "it looks like a pickle"
    if start[8:9] == b"{" and path.suffix != ".safetensors":
        return "it looks like a .safetensors file"
    return "it is empty" if not start else ""


def _reason(error: Exception) -> str:
    """Returns the sentence of torch's long explanation that names what was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = [line for line in lines if "Unsupported" in line or "disallowed" in line or "GLOBAL" in line]
    return (told or lines)[0].replace("WeightsUnpickler error: ", "")[:200]


def _state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    while isinstance(content, Mapping) and (inside := next((key for key in _WRAPPERS if key in content), None)):
        if isinstance(content[inside], torch.Tensor):
            break
        content = content[inside]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(path, f"holds a {type(content).__name__}", expected="a state dict", fix=_FIX)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            found = f"holds {name!r}, a {type(value).__name__}"
            raise ModelError(path, found, expected="tensors by name: a state dict", fix=_FIX)
    for prefix in _PREFIXES * 2:  # one may stand within the other
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return {name: tensor.detach() for name, tensor in content.items()}


def find_misfits(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Returns by its name each tensor that does not fit `model`, with what was found and
    expected.
    """
    expected, network = model.state_dict(), "the weights of this very network"
    misfits = {}
    for name, tensor in expected.items():
        if name not in tensors:
            misfits[name] = f"no tensor {name!r}; expected {network}"
        elif tensors[name].shape != tensor.shape:
            misfits[name] = f"{name} is {list(tensors[name].shape)}; expected {list(tensor.shape)}: {network}"
    extra = sorted(set(tensors) - set(expected))
    return misfits | {name: f"also holds {name!r}; expected {network}" for name in extra}


def load_weights(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], where: object, *, but: Collection[str] = ()
) -> None:
    """Fills `model` with tensors, or with none where one does not fit.

    Raises ModelError with the first name or shape that does not fit.

    Args:
        but: Tensors that stay as they are, whatever is given for them.
    """
    wanted = {name: tensor for name, tensor in tensors.items() if name not in but}
    kept = {name: tensor for name, tensor in model.state_dict().items() if name in but}
    if misfits := find_misfits(model, wanted | kept):
        raise ModelError(where, next(iter(misfits.values())))
    model.load_state_dict(wanted | kept)
