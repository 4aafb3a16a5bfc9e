"""Tensors on disk as safetensors files, which hold no code."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pipeline.core.errors import DataError, repaired
from pipeline.core.files import file_fingerprint, write_bytes
from pipeline.core.sealed import read_sealed, write_sealed


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes tensors by name as one safetensors file; the same tensors give the same bytes."""
    write_bytes(path, save(apart(tensors)))


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns tensors on the CPU, contiguous, each in memory of its own, as safetensors wants them.

    Tied weights share their memory: they are written under each of their names.
    """
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        start = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if start in seen else own
        seen.add(start)
    return plain


def read_tensors(path: Path, *, made_by: str) -> dict[str, torch.Tensor]:
    """Returns what `write_tensors` wrote, on the CPU; nothing is unpickled."""
    try:
        return load(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(path, "no such file", fix=f"run `dvc repro {made_by}`") from None
    except SafetensorError as error:
        raise DataError(path, f"not a safetensors file ({error})", fix=repaired(made_by)) from None


def write_digested(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes tensors as `write_tensors` does, with their digest in a sealed file beside them."""
    write_tensors(path, tensors)
    write_sealed(path.with_suffix(".json"), {"digest": file_fingerprint(path)})


def read_digested(path: Path) -> dict[str, torch.Tensor] | None:
    """Returns what `write_digested` wrote; None where it is not there, or has changed."""
    try:
        tensors = read_tensors(path, made_by="")
        digest = read_sealed(path.with_suffix(".json"), made_by="")["digest"]
    except DataError:
        return None
    return tensors if file_fingerprint(path) == digest else None
