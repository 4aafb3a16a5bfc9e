"""ONNX operators as functions of torch tensors, with gradients.

These are the operators that image classifiers have in their files; a file with another one can't be
trained. Tensors of whole numbers (shapes, indices) stay on the CPU.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_FLOAT_TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}


def _ints(tensor: Tensor) -> list[int]:
    return [int(value) for value in tensor.reshape(-1).tolist()]


def _padded(x: Tensor, pads: list[int], value: float = 0.0, mode: str = "constant") -> Tensor:
    """Returns a tensor with its dimensions padded: `pads` has all beginnings, then all ends."""
    half = len(pads) // 2
    sides = [side for axis in reversed(range(half)) for side in (pads[axis], pads[axis + half])]
    while sides and not any(sides[-2:]):  # torch takes no more dimensions than these
        del sides[-2:]
    return F.pad(x, sides, mode, value) if sides else x


def _sides(pads: list[int] | None) -> tuple[list[int], list[int]]:
    """Returns how far a picture is padded before its rows and columns, and after them."""
    return (pads[:2], pads[2:]) if pads else ([0, 0], [0, 0])


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **attributes: Any) -> Tensor:
    before, after = _sides(attributes.get("pads"))
    strides, dilations, group = (attributes.get(name, 1) for name in ("strides", "dilations", "group"))
    if before == after:  # torch's own padding is quicker
        return F.conv2d(x, weight, bias, strides, before, dilations, group)
    return F.conv2d(_padded(x, before + after), weight, bias, strides, 0, dilations, group)


def _conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None, **attributes: Any) -> Tensor:
    before, after = _sides(attributes.get("pads"))
    strides, dilations, group = (attributes.get(name, 1) for name in ("strides", "dilations", "group"))
    more = attributes.get("output_padding", 0)
    whole = F.conv_transpose2d(x, weight, bias, strides, 0, more, group, dilations)
    return whole[..., before[0] : whole.shape[2] - after[0], before[1] : whole.shape[3] - after[1]]


def _gemm(a: Tensor, b: Tensor, c: Tensor | None = None, **attributes: Any) -> Tensor:
    product: Tensor = (a.T if attributes.get("transA") else a) @ (b.T if attributes.get("transB") else b)
    product = product * attributes.get("alpha", 1.0)
    return product if c is None else torch.add(product, c, alpha=attributes.get("beta", 1.0))


def _max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | int = 1,
    dilations: list[int] | int = 1,
    ceil_mode: int = 0,
    **_: Any,
) -> Tensor:
    x = _padded(x, pads or [], -torch.inf)
    return F.max_pool2d(x, kernel_shape, strides, 0, dilations, bool(ceil_mode))


def _average_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | int = 1,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    **_: Any,
) -> Tensor:
    return F.avg_pool2d(x, kernel_shape, strides, _sides(pads)[0], bool(ceil_mode), bool(count_include_pad))


def _reduced(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Returns a reduction over axes, which a file has as an input."""

    def reduce(x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, **_: Any) -> Tensor:
        chosen = list(range(x.ndim)) if axes is None else _ints(axes)
        return run(x, dim=chosen, keepdim=bool(keepdims))

    return reduce


def _reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    sizes = [x.shape[place] if size == 0 and not allowzero else size for place, size in enumerate(_ints(shape))]
    return x.reshape(sizes)


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    chosen = range(starts.numel()) if axes is None else _ints(axes)
    strides = [1] * starts.numel() if steps is None else _ints(steps)
    parts = [slice(None)] * x.ndim
    for axis, *part in zip(chosen, _ints(starts), _ints(ends), strides, strict=True):
        parts[axis] = slice(*part)
    return x[tuple(parts)]


def _split(x: Tensor, sizes: Tensor | None = None, *, axis: int = 0, num_outputs: int = 0) -> tuple[Tensor, ...]:
    return torch.split(x, -(-x.shape[axis] // num_outputs) if sizes is None else _ints(sizes), axis)


def _gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    found = x.index_select(axis, indices.reshape(-1).to(x.device) % x.shape[axis])
    return found.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis % x.ndim + 1 :])


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(_ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _pad(x: Tensor, pads: Tensor, value: Tensor | None = None, *, mode: str = "constant") -> Tensor:
    return _padded(x, _ints(pads), 0.0 if value is None else float(value), mode.replace("edge", "replicate"))


def _resize(
    x: Tensor, _: Tensor | None, scales: Tensor | None, sizes: Tensor | None = None, **attributes: Any
) -> Tensor:
    if sizes is None:
        assert scales is not None, "it has sizes or scales"
        sizes = torch.tensor(x.shape) * scales
    size, mode = _ints(sizes)[2:], attributes.get("mode", "nearest")
    if mode == "nearest":
        return F.interpolate(x, size)
    corners = attributes.get("coordinate_transformation_mode") == "align_corners"
    how, smooth = {"linear": "bilinear", "cubic": "bicubic"}[mode], bool(attributes.get("antialias"))
    return F.interpolate(x, size, mode=how, align_corners=corners, antialias=smooth)


def _layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return F.layer_norm(x, x.shape[axis:], weight.expand(x.shape[axis:]), bias, epsilon)


def _batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return F.batch_norm(x, mean, var, weight, bias, eps=epsilon)


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(None if low is None else float(low), None if high is None else float(high))


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


#: (inputs of the node, its attributes) -> its output, or its outputs
OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda x, *, to, **_: x.to(_FLOAT_TYPES[to]),
    "Clip": _clip,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Constant": lambda *, value: value,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": lambda a, b: a / b if a.is_floating_point() else a // b,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, tuple(_ints(shape)))),
    "Flatten": lambda x, *, axis=1: x.reshape(math.prod(x.shape[:axis]), -1),
    "Gather": _gather,
    "Gelu": lambda x, *, approximate="none": F.gelu(x, approximate=approximate),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x: x.mean(dim=list(range(2, x.ndim)), keepdim=True),
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "InstanceNormalization": lambda x, weight, bias, *, epsilon=1e-5: F.instance_norm(
        x, weight=weight, bias=bias, eps=epsilon
    ),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "Log": torch.log,
    "MatMul": torch.matmul,
    "MaxPool": _max_pool,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "Pad": _pad,
    "Pow": lambda x, exponent: x ** exponent.to(x.dtype),
    "Reciprocal": torch.reciprocal,
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": lambda x, *, axis=-1: x.softmax(axis),
    "Softplus": F.softplus,
    "Split": _split,
    "Sqrt": torch.sqrt,
    "Squeeze": lambda x, axes=None: x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes))),
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Transpose": lambda x, *, perm: x.permute(*perm),
    "Unsqueeze": _unsqueeze,
    "Where": torch.where,
}
