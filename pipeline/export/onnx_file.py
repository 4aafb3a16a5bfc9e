"""A trained network as an ONNX file, and the logits that such a file predicts."""

import ast
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch.export import ExportedProgram

from pipeline.core.files import write_bytes
from pipeline.export.libraries import ExportError, first_line, onnx_libraries, quiet

OPSET = 18  # the first whose Resize can antialias
PIXELS, OUTPUT = "pixels", "logits"
#: In place of a module: what stands between samples and the network.
FRONT_END = "the front end"
_NETWORK, _WEIGHT = "network.", ".weight"  # around a layer's name
Keep = Callable[[torch.Tensor], torch.Tensor]
_SCOPES = "pkg.torch.onnx.name_scopes"  # a note of the exporter: modules from the outermost on, then the operation


def write_onnx(path: Path, program: ExportedProgram, about: Mapping[str, str], input_name: str = PIXELS) -> list[str]:
    """Writes the network in float32: uint8 [batch, channels, height, width], or samples of another
    kind, -> logits [batch, classes], or [batch, classes, height, width]. Returns the name of the
    module that each of the file's nodes comes from, `FRONT_END` before the first of the network's.

    Normalisation and resizing are in the graph, batch norm is folded into convolutions. The same
    weights give the same bytes on any machine and in any folder.

    Raises:
        ExportError: An operation has no form in ONNX.
    """
    with quiet("torch.onnx", "onnxscript", "onnx_ir"):
        try:
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=[OUTPUT],
                verbose=False,
            )
        except Exception as error:  # the exporter's errors have no class in common
            raise ExportError(path, f"the network can't be written ({first_line(error)})") from error
    assert exported is not None, "it was given no path"
    model = exported.model_proto
    modules = _modules(model.graph)
    save_onnx(path, model, about)
    return modules


def _modules(graph: Any) -> list[str]:
    """Returns the module of each node.

    A node belongs to the front end where neither it nor one that it reads from is the network's.
    """
    in_front, modules = {graph.input[0].name}, []
    for node in graph.node:
        module = _module(node)
        reads = [name for name in node.input if name in in_front]
        if reads and module == FRONT_END:
            in_front.update(node.output)
        modules.append(module if reads or module != FRONT_END else str(node.op_type))
    return modules


def _module(node: Any) -> str:
    """Returns the name of the module that owns a node's weight, or else the one that computes it;
    `FRONT_END` where none of the network's does.
    """
    weight: str = next((name for name in node.input if name.startswith(_NETWORK) and name.endswith(_WEIGHT)), "")
    if weight:
        return weight.removeprefix(_NETWORK).removesuffix(_WEIGHT)
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope.startswith(_NETWORK)]
    return str(modules[-1]).removeprefix(_NETWORK) if modules else FRONT_END


def save_onnx(path: Path, model: Any, about: Mapping[str, str]) -> None:
    """Writes an ONNX model with `about` as its metadata.

    The notes of exporters are left out, paths of source files among them, and names are short: in a
    small network they would take as much room as the weights.
    """
    graph = model.graph
    model.producer_name, model.producer_version, graph.name = "potstill", "", "network"
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        sizes[0].dim_param = "batch"
        for size in sizes[1:]:
            if size.HasField("dim_param"):  # of any length, and named by the exporter's count
                size.dim_param = value.name
    _shorten_names(graph)
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    write_bytes(path, model.SerializeToString(deterministic=True))


def _shorten_names(graph: Any) -> None:
    """Renames the values of a graph to numbers; input and output keep their names, nodes lose
    theirs.

    A graph with graphs inside stays as it is: they refer to its values by name.
    """
    if has_graphs_inside(graph):
        return
    short = {name: name for name in ("", graph.input[0].name, OUTPUT)}
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [short.setdefault(name, str(len(short))) for name in names]
    for tensor in graph.initializer:
        tensor.name = short[tensor.name]


def has_graphs_inside(graph: Any) -> bool:
    """Returns whether a node of a graph holds another one, for a branch or a loop."""
    return any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)


def run_onnx(
    path: Path,
    batches: Iterable[Integer[torch.Tensor, "_ ..."]],
    keep: Keep = lambda outputs: outputs,
) -> Float[torch.Tensor, "samples classes *grid"]:
    """Returns logits by onnxruntime, in the batches' order.

    Raises ExportError where it can't run the file.

    Args:
        keep: Returns what is kept of the logits of a batch.
    """
    _, runtime = onnx_libraries()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors, which are raised as well
    logits = []
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        for images in batches:
            logits.append(keep(torch.from_numpy(session.run([OUTPUT], {name: images.numpy()})[0])))
    except Exception as error:  # onnxruntime's errors have no class in common
        raise ExportError(path, f"can't be run by onnxruntime ({first_line(error)})") from error
    return torch.cat(logits)
