"""The stage `export`: a student to take away.

A trained network in the forms that others run: ONNX in float32 and int8, safetensors, ExecuTorch.

A file takes pixels as they are, 0 to 255 in uint8, gives logits, and says inside what it wants and what it means.

    about.py            What an exported file says of itself, the weights in a file that says it, and how to use them
    executorch_file.py  A trained network as an ExecuTorch program, for phones and small boards; the one file that imports executorch
    libraries.py        The libraries that write and run exported files: whether they are there, without what they say to developers
    onnx_file.py        A trained network as an ONNX file, and what such a file says of images
    parity.py           Whether an exported network says what the network says that it was made of
    predict.py          Says what an image shows: `python predict.py image.jpg [model_int8.onnx]`, by onnxruntime, numpy and Pillow alone
    programs.py         A trained network as a graph of operations, for any exporter
    quantization.py     A trained network in int8: static quantisation of its ONNX file by onnxruntime, calibrated on images
    settings.py         The section `export` of params.yaml, and the list `exports` beside it
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
