"""A trained network in the forms that others run: ONNX in float32 and int8, safetensors, ExecuTorch.

A file takes pixels as they are, 0 to 255 in uint8, gives logits, and says inside what it wants and what it means.
"""

from pipeline.export.about import describe, example, write_weights
from pipeline.export.executorch_file import run_executorch, write_executorch
from pipeline.export.libraries import ExportError, library_versions
from pipeline.export.onnx_file import run_onnx, write_onnx
from pipeline.export.parity import Parity, compare
from pipeline.export.programs import trace
from pipeline.export.quantization import write_int8

__all__ = [
    "ExportError",
    "Parity",
    "compare",
    "describe",
    "example",
    "library_versions",
    "run_executorch",
    "run_onnx",
    "trace",
    "write_executorch",
    "write_int8",
    "write_onnx",
    "write_weights",
]
