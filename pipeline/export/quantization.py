"""A trained network in int8: static quantisation of its ONNX file, by onnxruntime, calibrated on
images.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from pipeline.core.files import write_bytes
from pipeline.export.libraries import ExportError, first_line, onnx_libraries, quiet
from pipeline.export.onnx_file import INPUT, run_onnx, save_onnx
from pipeline.signals.metrics import agreement, kl_to_teacher

_BATCH = 64  # of images at a time
_ALIKE = 0.99  # of the images have the same likeliest class
_OPTIONS = {
    # A bias in float32 takes as many bytes as one in int32, and needs no scale and no further
    # nodes; onnxruntime converts it as it reads the file.
    "QuantizeBias": False,
    # Logits of 8 bits would have ties.
    "OpTypesToExcludeOutputQuantization": ["Gemm"],
}


def write_int8(
    path: Path,
    source: Path,
    images: UInt8[torch.Tensor, "images channels height width"],
    about: Mapping[str, str],
    *,
    reduce_range: bool | None,
) -> int:
    """Writes the network of an ONNX file in int8, as `quantise` does; returns the bits of its
    weights.

    Where `reduce_range` is None they are 8, unless the network predicts other classes with them
    than in float32 on this processor, and is nearer to it with 7.
    """
    quantise(path, source, images.numpy(), about, reduce_range=bool(reduce_range))
    if reduce_range is not None:
        return 7 if reduce_range else 8
    exact, with_8 = (run_onnx(file, images.split(_BATCH)) for file in (source, path))
    if agreement(with_8, exact) >= _ALIKE:
        return 8
    content = path.read_bytes()
    quantise(path, source, images.numpy(), about, reduce_range=True)
    if kl_to_teacher(run_onnx(path, images.split(_BATCH)), exact) < kl_to_teacher(with_8, exact):
        return 7
    write_bytes(path, content)
    return 8


def quantise(
    path: Path,
    source: Path,
    images: UInt8[np.ndarray, "images channels height width"],
    about: Mapping[str, str],
    *,
    reduce_range: bool,
) -> None:
    """Writes the network of an ONNX file with int8 weights, a scale per channel, and uint8
    activations.

    The file holds standard operators between QuantizeLinear and DequantizeLinear, which runtimes
    other than onnxruntime read as well; onnxruntime's own operators (QOperator) are no faster and
    save 2 % of a small file.

    Args:
        images: The ranges of activations are their smallest and largest values on these.
        reduce_range: Weights have 7 bits: x86 processors without VNNI (before 2019 or so) add up
            products of 8 bits in 16, which may overflow.

    Raises:
        ExportError: onnxruntime can't quantise it.
    """
    onnx, _ = onnx_libraries()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, quiet("root"):
        quantised = Path(folder, "int8.onnx")
        try:
            quantize_static(
                onnx.load(source),
                quantised,
                _Calibration(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=dict(_OPTIONS),
            )
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ExportError(path, f"can't be quantised ({first_line(error)})") from error
        save_onnx(path, onnx.load(quantised), about)


class _Calibration:
    """A reader of images batch by batch, as onnxruntime asks for them."""

    def __init__(self, images: UInt8[np.ndarray, "images channels height width"]) -> None:
        self._batches = iter(np.split(images, range(_BATCH, len(images), _BATCH)))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
