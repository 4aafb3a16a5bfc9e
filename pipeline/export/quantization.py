"""A network in int8, whole or in part: static quantisation of its ONNX file, by onnxruntime,
calibrated on images.
"""

import copy
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer

from pipeline.export.libraries import ExportError, first_line, onnx_libraries, quiet
from pipeline.export.onnx_file import OUTPUT, has_graphs_inside, save_onnx

_BATCH = 64  # of images at a time
_PIXELS_AT_ONCE = 1 << 22  # fewer images where they are large
_WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Form:
    """A form of a network: the parts of it that are in int8.

    Attributes:
        whole: Every operator that onnxruntime can quantise; otherwise layers with weights alone.
        bits: Of a weight, 8 or 7.
        float32: The layers that stay in float32.
    """

    whole: bool
    bits: int
    float32: frozenset[str] = frozenset()


class Quantiser:
    """The network of an ONNX file, to be written in int8; the ranges of its activations are
    measured once.

    Attributes:
        layers: The layers with weights, in the network's order, and how many weights each has.
    """

    def __init__(self, source: Path, images: Integer[torch.Tensor, "images ..."], ranges: Path) -> None:
        onnx, _ = onnx_libraries()
        self._model = _with_safe_names(onnx.load(source))
        self._images, self._ranges = images, ranges
        self._about = {entry.key: entry.value for entry in self._model.metadata_props}
        sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in self._model.graph.initializer}
        self.layers = {
            node.name: sum(sizes.get(name, 0) for name in node.input[:2])
            for node in self._model.graph.node
            if node.op_type in _WITH_WEIGHTS and any(name in sizes for name in node.input[:2])
        }

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The network's tensors in float32, by the names that `quantised` gives them."""
        onnx, _ = onnx_libraries()
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer}

    def write(self, path: Path, form: Form) -> None:
        """Writes the network in a form, as `quantised` returns it."""
        self.save(path, self.quantised(path, form))

    def save(self, path: Path, model: Any) -> None:
        """Writes a model of this network with the metadata of its source."""
        save_onnx(path, model, self._about)

    def quantised(self, path: Path, form: Form) -> Any:
        """Returns the network with int8 weights, a scale per channel, and uint8 activations.

        The model holds standard operators between QuantizeLinear and DequantizeLinear, which
        runtimes other than onnxruntime read as well; onnxruntime's own operators (QOperator) are no
        faster and save 2 % of a small file.

        Weights of 7 bits are for x86 processors without VNNI (before 2019 or so): they add up
        products of 8 bits in 16, which may overflow.

        Args:
            path: Its file, for messages.

        Raises:
            ExportError: onnxruntime can't quantise it.
        """
        onnx, _ = onnx_libraries()
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        with tempfile.TemporaryDirectory() as folder, quiet("root"):
            quantised = Path(folder, "int8.onnx")
            try:
                quantize_static(
                    copy.deepcopy(self._model),  # it moves the tensors of what it is given into files
                    quantised,
                    _Calibration(self._model.graph.input[0].name, self._images),
                    calibration_cache_path=self._ranges,
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=form.bits == 7,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                    nodes_to_quantize=[] if form.whole else [name for name in self.layers if name not in form.float32],
                    nodes_to_exclude=sorted(form.float32),
                    extra_options=_options(form),
                )
            except Exception as error:  # onnxruntime's errors have no class in common
                raise ExportError(path, f"can't be quantised ({first_line(error)})") from error
            return onnx.load(quantised)


@contextmanager
def quantiser(source: Path, images: Integer[torch.Tensor, "images ..."]) -> Iterator[Quantiser]:
    """Gives the quantiser of an ONNX file.

    Args:
        images: The ranges of activations are their smallest and largest values on these.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield Quantiser(source, images, Path(folder, "ranges.json"))


def _options(form: Form) -> dict[str, Any]:
    """Returns onnxruntime's further options."""
    return {
        # A bias in float32 takes as many bytes as one in int32, and needs no scale and no further
        # nodes; onnxruntime converts it as it reads the file.
        "QuantizeBias": False,
        # Logits of 8 bits would have ties. A product whose neighbours stay in float32 gains nothing
        # from 8 bits.
        "OpTypesToExcludeOutputQuantization": ["Gemm"] if form.whole else ["Gemm", "MatMul"],
    }


def layer_name(index: int) -> str:
    """Returns the name of a node by its place in the file."""
    return f"n{index}_"


def _with_safe_names(model: Any) -> Any:
    """Returns a model whose nodes have names and whose values have names that are no one else's
    beginning.

    onnxruntime copies a bias that several layers share (zeros of a fresh network, say). It gives
    the copy the first name and a number, and gives it to all nodes of the layer's name. With values
    called 14 and 148, or nodes without names, the copy takes another value's place: then
    quantisation never ends, or the file can't be run. It also orders nodes by the names of weights:
    these names leave the order as it is.
    """
    for index, node in enumerate(model.graph.node):
        node.name = layer_name(index)
    if has_graphs_inside(model.graph):
        return model
    kept = ("", model.graph.input[0].name, OUTPUT)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if name in kept else f"{name}_" for name in names]
    for tensor in model.graph.initializer:
        tensor.name = f"{tensor.name}_"
    return model


def in_batches(
    images: Integer[torch.Tensor, "images ..."],
) -> tuple[Integer[torch.Tensor, "_ ..."], ...]:
    """Returns images in batches that onnxruntime is given at once."""
    size = max(1, min(_BATCH, _PIXELS_AT_ONCE // math.prod(images.shape[2:] or images.shape[1:])))
    batches: tuple[torch.Tensor, ...] = images.split(size)
    return batches


class _Calibration:
    """A reader of images batch by batch, as onnxruntime asks for them."""

    def __init__(self, name: str, images: Integer[torch.Tensor, "images ..."]) -> None:
        self._name = name
        self._batches = (batch.numpy() for batch in in_batches(images))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}
