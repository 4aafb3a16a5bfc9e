"""Weights that were made elsewhere: put into a network as torch would, or refused."""

import copy
import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.models.output_kinds import OutputKind, kind_of
from pipeline.models.weight_files import read_tensors_by_name

_OWN = "network."  # of weights that this project wrote, which are a Classifier's


@dataclass(frozen=True)
class Weights:
    """The tensors of a file or a library by name, and what their maker says of the network (None:
    nothing).

    Attributes:
        where: The file, or how they are called.
        num_outputs: How many outputs the network has, and `class_names` what they mean.
        mean: Of the channels it wants, in units of 255 pixel levels; `std` alike.
        size_px: Height and width of the images that it wants.
        outputs: The kind of its outputs.
        buffers: Those of the Classifier that it was part of.
    """

    tensors: Mapping[str, torch.Tensor]
    where: str
    num_outputs: int | None = None
    class_names: list[str] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    size_px: list[int] | None = None
    outputs: OutputKind | None = None
    buffers: Mapping[str, torch.Tensor] = field(default_factory=dict)


def read_weights(path: Path) -> Weights:
    """Returns the weights in a safetensors file, or in one of torch.save that holds tensors by
    name.

    Raises ModelError where the file is neither, or holds what would have to be executed.
    """
    tensors = read_tensors_by_name(path)
    if not any(name.startswith(_OWN) for name in tensors) or "pixel_mean" not in tensors:
        return Weights(tensors, str(path))
    network = {name.removeprefix(_OWN): tensor for name, tensor in tensors.items() if name.startswith(_OWN)}
    buffers = {name: tensors[name] for name in ("pixel_mean", "pixel_std")}
    mean, std = ((tensor.double().flatten() / 255).tolist() for tensor in buffers.values())
    size_px = tensors["input_px"].tolist() if "input_px" in tensors else None
    kind = kind_of(tensors.get("output_kind"))
    return Weights(network, str(path), mean=mean, std=std, size_px=size_px, outputs=kind, buffers=buffers)


def find_misfits(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Returns by its name each tensor that does not fit `model`, with what was found and expected.

    torch's own loading decides, on a copy of the network without memory for its tensors: it renames
    what a layer was called in earlier versions, and does without counters that these did not have.
    """
    expected, network = model.state_dict(), "the weights of this very network"
    misfits = {
        name: f"{name} is {list(tensors[name].shape)}; expected {list(tensor.shape)}: {network}"
        for name, tensor in expected.items()
        if name in tensors and not _fits(tensor, tensors[name])
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is copied into such tensors
        try:
            found = _without_memory(model).load_state_dict(
                {name: tensor for name, tensor in tensors.items() if name not in misfits}, strict=False
            )
        except RuntimeError as error:  # of a tensor that torch renames
            return misfits or {"": " ".join(str(error).splitlines()[1:2])}
    missing = {name: f"no tensor {name!r}; expected {network}" for name in found.missing_keys if name not in misfits}
    extra = {name: f"also holds {name!r}; expected {network}" for name in sorted(found.unexpected_keys)}
    return {name: fault for name in expected for fault in [(misfits | missing).get(name)] if fault} | extra


def _fits(expected: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Returns whether shapes are the same; early versions of torch wrote single numbers as lists of
    one.
    """
    return expected.shape == tensor.shape or (expected.ndim == 0 and tensor.shape == (1,))


def _without_memory(model: nn.Module) -> nn.Module:
    """Returns a copy of a network whose tensors have shapes and no values."""
    empty: dict[int, object] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    for parameter in model.parameters():
        empty[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    return copy.deepcopy(model, empty)


def load_weights(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], where: object, *, but: Collection[str] = ()
) -> None:
    """Fills `model` with tensors, or with none where one does not fit.

    Raises ModelError with the first name or shape that does not fit, or that is not a number.

    Args:
        but: Tensors that stay as they are, whatever is given for them.
    """
    wanted = {name: tensor for name, tensor in _with_ties(model, tensors).items() if name not in but}
    kept = {name: tensor for name, tensor in model.state_dict().items() if name in but}
    if misfits := find_misfits(model, wanted | kept):
        raise ModelError(where, next(iter(misfits.values())))
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and (count := int(tensor.isnan().sum())):
            found = f"{name} holds NaN ({count:,} of {tensor.numel():,} values)"
            raise ModelError(where, found, expected="numbers", fix="take a file of before the training went wrong")
    model.load_state_dict(wanted | kept)


def _with_ties(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns tensors with those that a file leaves out because they are tied to another one."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, tensor in model.state_dict(keep_vars=True).items():
        names[id(tensor)].append(name)
    whole = dict(tensors)
    for tied in names.values():
        for given in [name for name in tied if name in tensors][:1]:
            whole |= {name: tensors[given] for name in tied if name not in tensors}
    return whole
