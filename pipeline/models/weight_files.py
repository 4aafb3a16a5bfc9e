"""Files of weights that were made elsewhere, read without executing anything: tensors by name."""

import pickle
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.core.errors import ModelError

_FIX = "save it again: torch.save(model.state_dict(), ...)"
_EXPECTED = "a safetensors file, or one of torch.save with a state dict"
_HARMLESS: list[Any] = [Namespace]  # a training script's settings beside its weights


def read_tensors_by_name(path: Path) -> dict[str, torch.Tensor]:
    """Returns every tensor in a file of weights, whatever the file is called.

    A tensor in maps within maps goes by all their keys, joined with dots; numbers as keys are an
    optimizer's, and are left out with all that is below them.

    Raises ModelError where the file is no such file, or holds what would have to be executed.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return _read_pickled(path)
    what = "it is empty" if not start else "neither by its first bytes"
    raise ModelError(path, f"not a file of weights ({what})", expected=_EXPECTED, fix=_FIX)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(path, f"not a whole safetensors file ({error})", fix=_FIX) from None


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    try:
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # of TorchScript archives, which are refused anyway
            # A file without a name: by a name torch would guess what it is.
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may raise anything
        found = f"can't be read as weights ({_reason(error)})"
        if isinstance(error, pickle.UnpicklingError):
            found = f"holds more than tensors, or is damaged, and was not executed ({_reason(error)})"
        raise ModelError(path, found, expected="a state dict", fix=_FIX) from None
    if not isinstance(content, Mapping) or not content:
        raise ModelError(path, f"holds a {type(content).__name__}", expected="a state dict", fix=_FIX)
    tensors = dict(_flat(content))
    if not tensors:
        key, value = next(iter(content.items()))
        found = f"holds no tensors by name ({key!r} is a {type(value).__name__})"
        raise ModelError(path, found, expected="a state dict", fix=_FIX)
    return tensors


def _flat(content: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, torch.Tensor):
            yield above + key, value.detach()
        elif isinstance(key, str) and isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")


def _reason(error: Exception) -> str:
    """Returns the sentence of torch's long explanation that names what was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = [line for line in lines if "Unsupported" in line or "disallowed" in line or "GLOBAL" in line]
    return (told or lines)[0].replace("WeightsUnpickler error: ", "")[:200]
