"""The graph of an int8 ONNX file as a torch network that can be trained: fake quantisation.

What the file has in 8 bits is rounded to the same steps here, in floats: what is trained is what a
runtime computes. Nothing but the file decides where that happens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pipeline.export.libraries import ExportError, onnx_libraries
from pipeline.export.onnx_file import OUTPUT
from pipeline.export.operators import OPERATORS

_QUANTISED = "_quantized"  # onnxruntime's names of weights in int8 end so
_WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
_NO_RUN = ("QuantizeLinear", "DequantizeLinear")
_LARGEST = {8: 127, 7: 64}  # of a weight, by its bits


def fake_quantise(x: Tensor, scale: Tensor, zero_point: int, least: int, largest: int) -> Tensor:
    """Returns values rounded to whole steps of a scale, and cut to what fits into 8 bits.

    Rounding lets gradients through; the scale learns from what is cut and from what rounding
    changes.

    References:
        Steven K. Esser et al., "Learned Step Size Quantization", 2019, arXiv 1902.08153, section
        2.1.
    """
    return scale * torch.fake_quantize_per_tensor_affine(x / scale, 1.0, zero_point, least, largest)


@dataclass(frozen=True)
class _Step:
    """A node: its function, the names of its values, and those that no later node reads."""

    run: Callable[..., Any]
    inputs: Sequence[str]
    outputs: Sequence[str]
    last_read: Sequence[str] = ()


class FakeInt8(nn.Module):
    """The network of an ONNX model, which learns its layers' weights, biases and scales.

    Norms that are not folded into layers, and constants, stay as they are. A model without int8 is
    the same network without rounding.

    Args:
        model: An ONNX model whose int8 parts stand between QuantizeLinear and DequantizeLinear.
        exact: The weights before they were quantised, by name.
        bits: Of a weight, 8 or 7.

    Raises:
        ExportError: It has an operator that is not known here.
    """

    def __init__(self, model: Any, exact: Mapping[str, np.ndarray], bits: int = 8) -> None:
        super().__init__()
        onnx, _ = onnx_libraries()
        if unknown := {node.op_type for node in model.graph.node} - OPERATORS.keys() - set(_NO_RUN):
            raise ExportError("aware int8", f"no gradient is known here of {', '.join(sorted(unknown))}")
        self._input = model.graph.input[0].name
        self._stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._exact, self._largest = exact, _LARGEST[bits]
        self.weights, self.log_scales, self._constants = nn.ParameterDict(), nn.ParameterDict(), nn.Module()
        self._whole_numbers: dict[str, Tensor] = {}
        self._scale_of: dict[str, tuple[str, list[int]]] = {}  # of a weight in int8: name and shape of its scale
        self._steps = _freeing([self._step(node) for node in model.graph.node])
        for name in self._stored.keys() - self.weights.keys() - self.log_scales.keys():
            self._keep(name, self._stored[name])

    def forward(self, pixels: Integer[Tensor, "batch ..."]) -> Float[Tensor, "batch classes *grid"]:
        values: dict[str, Any] = {"": None, self._input: pixels, **self._whole_numbers}
        values |= dict(self._constants.named_buffers()) | dict(self.weights.items())
        values |= {name: log_scale.exp() for name, log_scale in self.log_scales.items()}
        for step in self._steps:
            found = step.run(*(values[name] for name in step.inputs))
            values.update(zip(step.outputs, found if isinstance(found, tuple) else [found], strict=True))
            for name in step.last_read:
                del values[name]
        logits: Tensor = values[OUTPUT]
        return logits

    def tensors(self) -> dict[str, np.ndarray]:
        """Returns what it has learned, as the model stores it, by name."""
        scales = {name: log_scale.detach().exp().cpu() for name, log_scale in self.log_scales.items()}
        found = dict(scales)
        for name, values in self.weights.items():
            found[name] = values.detach().cpu()
            if name in self._scale_of:
                scale, shape = self._scale_of[name]
                steps = (found[name] / scales[scale].reshape(shape)).round()
                found[name] = steps.clamp(-self._largest, self._largest).to(torch.int8)
        return {name: values.numpy() for name, values in found.items()}

    def _step(self, node: Any) -> _Step:
        """Returns what a node does, and makes parameters of what it is to learn."""
        attributes = {each.name: plain(each) for each in node.attribute}
        inputs, outputs = list(node.input), list(node.output)
        if node.op_type == "QuantizeLinear":
            return self._rounded(inputs, outputs)
        if node.op_type == "DequantizeLinear":
            return self._dequantised(inputs, outputs, attributes.get("axis", 1))
        if node.op_type in _WITH_BIAS and len(inputs) > 2 and inputs[2] in self._stored:
            self._learn(inputs[2], self._stored[inputs[2]])
        return _Step(partial(OPERATORS[node.op_type], **attributes), inputs, outputs)

    def _rounded(self, inputs: list[str], outputs: list[str]) -> _Step:
        """Returns the step of an activation that is rounded to 8 bits."""
        value, scale, zero_point = inputs
        self._learn_scale(scale)
        run = partial(fake_quantise, zero_point=int(self._stored[zero_point]), least=0, largest=255)
        return _Step(run, [value, scale], outputs)

    def _dequantised(self, inputs: list[str], outputs: list[str], axis: int) -> _Step:
        """Returns the step of a value in 8 bits: an activation, rounded before, a constant, or a
        weight.
        """
        name, scale, zero_point = inputs
        if name not in self._stored:
            return _Step(OPERATORS["Identity"], [name], outputs)
        values, scales = self._stored[name], self._stored[scale]
        shape = [len(scales) if scales.ndim and place == axis % values.ndim else 1 for place in range(values.ndim)]
        if values.dtype != np.int8:
            steps = values.astype(np.float32) - self._stored[zero_point]
            self._keep(outputs[0], steps * scales.reshape(shape))
            return _Step(OPERATORS["Identity"], [outputs[0]], outputs)
        self._learn(name, self._exact.get(name.removesuffix(_QUANTISED), values * scales.reshape(shape)))
        self._learn_scale(scale)
        self._scale_of[name] = (scale, shape)
        largest = self._largest
        return _Step(lambda w, s: fake_quantise(w, s.reshape(shape), 0, -largest, largest), [name, scale], outputs)

    def _learn(self, name: str, values: np.ndarray) -> None:
        self.weights[name] = nn.Parameter(torch.from_numpy(values.astype(np.float32)))

    def _learn_scale(self, name: str) -> None:
        """Makes a parameter of a scale's logarithm: an optimizer then moves all by like shares."""
        self.log_scales[name] = nn.Parameter(torch.from_numpy(np.array(np.log(self._stored[name]))))

    def _keep(self, name: str, values: np.ndarray) -> None:
        tensor = torch.from_numpy(np.array(values))
        if tensor.is_floating_point():
            self._constants.register_buffer(name, tensor, persistent=False)
        else:
            self._whole_numbers[name] = tensor


def plain(attribute: Any) -> Any:
    """Returns the value of a node's attribute, as an operator takes it."""
    onnx, _ = onnx_libraries()
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    return torch.from_numpy(onnx.numpy_helper.to_array(value).copy()) if hasattr(value, "raw_data") else value


def _freeing(steps: Sequence[_Step]) -> list[_Step]:
    """Returns the steps, each with the values that are not needed after it."""
    found, needed = list[_Step](), {OUTPUT, ""}
    for step in reversed(steps):
        last_read = {*step.inputs, *step.outputs} - needed
        needed |= last_read
        found.append(replace(step, last_read=sorted(last_read)))
    return found[::-1]
