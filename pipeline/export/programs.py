"""A trained network as a graph of operations, for any exporter."""

import copy
from functools import partial
from typing import Any

import torch
from jaxtyping import Integer
from torch.export import Dim, ExportedProgram
from torch.fx.node import map_aggregate

from pipeline.export.libraries import quiet
from pipeline.export.untraceable import untraceable
from pipeline.models import Classifier
from pipeline.models.classifier import Portable


def trace(portable: Portable, inputs: Integer[torch.Tensor, "batch ..."]) -> ExportedProgram:
    """Returns the graph of a network in eval mode for inputs like these.

    With several of them, it takes batches of any size, and inputs of any length along the axes that
    are open. The graph leaves out the memory order that
    the network asks for (channels last): other runtimes would copy tensors back and forth for it.

    Raises:
        ExportError: The network does what a graph can't express.
    """
    plain = copy.deepcopy(portable.network).eval().to(memory_format=torch.contiguous_format)
    lengths = {axis: Dim(name, max=portable.most) for axis, name in portable.open_axes.items()}
    shapes = ({0: Dim("batch"), **lengths},) if len(inputs) > 1 else None
    export = partial(_export, plain, inputs, shapes)
    try:
        program = export()
    except Exception as error:  # a network of a library or of a user may raise anything
        raise untraceable(error, plain, export) from error
    for node in program.graph.nodes:
        node.args, node.kwargs = map_aggregate(node.args, _contiguous), map_aggregate(node.kwargs, _contiguous)
    return program


def _export(model: Classifier, images: torch.Tensor, shapes: Any) -> ExportedProgram:
    with quiet("torch.export"), torch.no_grad():
        return torch.export.export(model, (images,), dynamic_shapes=shapes)


def _contiguous(value: Any) -> Any:
    return torch.contiguous_format if value is torch.channels_last else value
