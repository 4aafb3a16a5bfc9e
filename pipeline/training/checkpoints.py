"""Checkpoints: dicts, lists, numbers and tensors on disk, replaced as a whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import DataError
from pipeline.core.files import file_fingerprint
from pipeline.core.progress import say
from pipeline.core.sealed import read_sealed, write_sealed
from pipeline.core.tensors import read_tensors, write_tensors


def write_checkpoint(folder: Path, tag: str, state: object) -> None:
    """Replaces the checkpoint in `folder`.

    First come the tensors under a new name, then the file that counts, with their name and digest.

    Args:
        tag: Differs from one checkpoint to the next.
    """
    tensors: dict[str, torch.Tensor] = {}
    path = folder / f"checkpoint-{tag}.safetensors"
    tree = _take_out(state, tensors)
    write_tensors(path, tensors)
    content = {"tensors": path.name, "digest": file_fingerprint(path), "state": tree}
    write_sealed(folder / "checkpoint.json", content, indent=None)
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != path:
            old.unlink()


def read_checkpoint(folder: Path) -> Any | None:
    """Returns the state that was written last; None if there is none, or it is damaged.

    Its tensors are on the CPU and contiguous, its tuples are lists.
    """
    if not (folder / "checkpoint.json").exists():
        return None
    try:
        content = read_sealed(folder / "checkpoint.json", made_by="")
        path = folder / content["tensors"]
        tensors = read_tensors(path, made_by="")
        whole = file_fingerprint(path) == content["digest"]
    except (DataError, KeyError):
        whole = False
    if not whole:
        say(f"the checkpoint in {folder} is damaged: starting from the beginning")
        return None
    return _put_back(content["state"], tensors)


def _take_out(value: object, tensors: dict[str, torch.Tensor]) -> object:
    """Returns `value` as plain JSON with the tensors' names in their places; fills `tensors`."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):  # as pairs, because JSON has no other keys than text
        return {"items": [[key, _take_out(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_out(item, tensors) for item in value]
    return value


def _put_back(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict) and "tensor" in value:
        return tensors[value["tensor"]].clone()
    if isinstance(value, dict):
        return {key: _put_back(item, tensors) for key, item in value["items"]}
    if isinstance(value, list):
        return [_put_back(item, tensors) for item in value]
    return value
