"""A trained network as an ExecuTorch program, for phones and small boards.

The one file that imports executorch.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch.export import ExportedProgram

from pipeline.core.files import write_bytes
from pipeline.export.libraries import ExportError, first_line, quiet
from pipeline.export.onnx_file import Keep


def write_executorch(path: Path, program: ExportedProgram, about: Mapping[str, str]) -> None:
    """Writes the network in float32 for XNNPACK.

    It takes one image at a time: uint8 pixels [1, channels, height, width] -> logits. Its metadata
    are methods without arguments, such as `class_names`.

    Raises:
        ExportError: An operation has no form in ExecuTorch.
    """
    with quiet("torch.utils._pytree", "root"):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            lowered = to_edge_transform_and_lower(
                program, partitioner=[XnnpackPartitioner()], constant_methods=dict(about)
            )
            content = lowered.to_executorch().buffer
        except Exception as error:  # any of its passes may fail, in its own way
            raise ExportError(path, f"the network can't be written ({first_line(error)})") from error
    write_bytes(path, content)


def run_executorch(
    path: Path,
    batches: Iterable[UInt8[torch.Tensor, "_ channels height width"]],
    keep: Keep = lambda outputs: outputs,
) -> Float[torch.Tensor, "samples classes *grid"]:
    """Returns logits by ExecuTorch's runtime, in the batches' order.

    Raises ExportError where it can't run the file.

    Args:
        keep: Returns what is kept of the logits of an image.
    """
    with quiet("root"):
        from executorch.runtime import Runtime

    try:
        method = Runtime.get().load_program(path).load_method("forward")
        logits = [keep(method.execute([image])[0]).clone() for images in batches for image in images.split(1)]
    except Exception as error:  # its errors have no class in common
        raise ExportError(path, f"can't be run by ExecuTorch ({first_line(error)})") from error
    return torch.cat(logits)
