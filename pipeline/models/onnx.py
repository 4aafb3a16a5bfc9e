"""A network in an ONNX file, `onnx/<path>`, for inference alone.

The one file of networks that imports onnx and onnxruntime.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from pipeline.core.errors import ModelError, suggest

_LAYOUT = "one input of floats, [batch, channels, height, width]"
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class OnnxNetwork(nn.Module):
    """A network that onnxruntime runs: no tensors of its own, and no gradients.

    Raises ModelError where the file is not such a network.

    Args:
        settings: `output` names the output with the logits, where there are several, and
            `embedding` the one with the embedding, which is then given beside them.
        name: What the network is called, for messages.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], name: str) -> None:
        super().__init__()
        self._name = name
        self._session = _open(path, name)
        self._input = self._only_input()
        self._output = self._chosen_output(settings)
        self._embedding = self._named_embedding(settings)
        batch, channels, height, width = self._input.shape
        self._batch_size = batch if isinstance(batch, int) and batch > 0 else None
        #: Channels that its images have, and their height and width; None where it takes any.
        self.channels: int | None = channels if isinstance(channels, int) else None
        self.size_px = [height, width] if isinstance(height, int) and isinstance(width, int) else None
        #: Numbers in the file that may have been trained.
        self.num_parameters = _count_parameters(path, name)

    def __deepcopy__(self, memo: object) -> "OnnxNetwork":
        """Returns itself: it has no state, and a session can't be copied."""
        return self

    def forward(
        self, images: Float[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch outputs *grid"] | dict[str, torch.Tensor]:
        values = images.detach().cpu().contiguous().numpy().astype(_FLOATS[self._input.type])
        size = self._batch_size or len(values)
        parts = [self._run(values[start : start + size], size) for start in range(0, len(values), size)]
        logits, *others = (
            torch.from_numpy(np.concatenate(each)).to(images.device) for each in zip(*parts, strict=True)
        )
        return {"logits": logits, "embedding": others[0]} if others else logits

    def count_outputs(self, image_shape: Sequence[int]) -> int:
        """Returns the number of logits for an image of this shape (channels, height, width)."""
        found = self.forward(torch.zeros(1, *image_shape))
        return (found["logits"] if isinstance(found, dict) else found).shape[1]

    def _run(self, images: np.ndarray, size: int) -> list[np.ndarray]:
        """Returns the logits of some images, and their embeddings where these have a name, in a
        batch of `size`: what lacks is filled up.
        """
        wanted = [self._output, *([self._embedding] if self._embedding else [])]
        filled = images if len(images) == size else np.resize(images, (size, *images.shape[1:]))
        try:
            found = self._session.run(wanted, {self._input.name: filled})
        except Exception as error:  # onnxruntime's errors have no class in common
            shape = " x ".join(map(str, images.shape[1:]))
            raise ModelError(f"model {self._name!r}", f"can't take images of {shape} ({_line(error)})") from None
        for name, values in zip(wanted, found, strict=True):
            if values.ndim < 2 or len(values) != size or (values.ndim not in (2, 4) and name == self._output):
                shown = f"output {name!r} of shape {list(values.shape)} for {size} images"
                logits = "logits, [batch, classes] or [batch, classes, height, width]"
                what = logits if name == self._output else "embeddings, [batch, dimensions]"
                raise ModelError(f"model {self._name!r}", shown, expected=what)
        return [np.asarray(values[: len(images)], dtype=np.float32) for values in found]

    def _only_input(self) -> Any:
        inputs = self._session.get_inputs()
        told = ", ".join(f"{each.name} {each.type} {list(each.shape)}" for each in inputs)
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _FLOATS:
            raise ModelError(f"model {self._name!r}", f"its inputs are: {told}", expected=_LAYOUT)
        channels, last = inputs[0].shape[1], inputs[0].shape[3]
        if isinstance(channels, int) and channels not in (1, 3):
            layout = "; channels are last" if last in (1, 3) else ""
            raise ModelError(f"model {self._name!r}", f"its inputs are: {told}{layout}", expected=_LAYOUT)
        return inputs[0]

    def _chosen_output(self, settings: Mapping[str, Any]) -> str:
        if unknown := [key for key in settings if key not in ("output", "embedding")]:
            expected = "`output`, `embedding`, or none"
            raise ModelError(f"model {self._name!r}", f"unknown setting {unknown[0]!r}", expected=expected)
        names = [each.name for each in self._session.get_outputs()]
        if "output" not in settings and len(names) > 1:
            fix = "name one in model_settings: {output: ...}"
            raise ModelError(f"model {self._name!r}", f"has outputs {', '.join(names)}", expected="one", fix=fix)
        return self._known_output(str(settings.get("output", names[0])))

    def _named_embedding(self, settings: Mapping[str, Any]) -> str | None:
        return self._known_output(str(settings["embedding"])) if "embedding" in settings else None

    def _known_output(self, chosen: str) -> str:
        names = [each.name for each in self._session.get_outputs()]
        if chosen not in names:
            raise ModelError(f"model {self._name!r}", f"no output {chosen!r}", expected=suggest(chosen, names))
        return chosen


def copy_whole(source: Path, target: Path, name: str) -> None:
    """Copies an ONNX file; weights that it keeps in files beside it go into the copy."""
    if not beside(source, name):
        shutil.copyfile(source, target)
        return
    onnx, _ = _libraries(name)
    try:
        onnx.save(onnx.load(source), target)
    except Exception as error:  # of protobuf, which has a limit of 2 GB, or of a lost file
        found = f"its weights in files beside it can't be taken into one ({_line(error)})"
        raise ModelError(f"model {name!r}", found, fix="export it into one file") from None


def beside(path: Path, name: str) -> list[Path]:
    """Returns the files that an ONNX file keeps weights in; raises ModelError where it is no ONNX
    file.
    """
    tensors = _load(path, name).graph.initializer
    places = [entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
    return sorted({path.parent / place for place in places})


def _count_parameters(path: Path, name: str) -> int:
    onnx, _ = _libraries(name)
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
    return sum(math.prod(tensor.dims) for tensor in _load(path, name).graph.initializer if tensor.data_type in floats)


def _load(path: Path, name: str) -> Any:
    onnx, _ = _libraries(name)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's, whichever of its implementations is at work
        raise ModelError(f"model {name!r}", f"not an ONNX file ({_line(error)})") from None
    if not model.graph.output:
        raise ModelError(f"model {name!r}", "not an ONNX file (it has no outputs)")
    return model


def _open(path: Path, name: str) -> Any:
    _, runtime = _libraries(name)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors, which are raised as well
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [each for each in wanted if each in runtime.get_available_providers()]
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no class in common
        raise ModelError(f"model {name!r}", f"can't be run by onnxruntime ({_line(error)})") from None


def _libraries(name: str) -> tuple[ModuleType, ModuleType]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        fix = "install the extra `teachers` (`pip install -c constraints.txt .[teachers]`)"
        raise ModelError(f"model {name!r}", f"onnxruntime can't be imported ({error})", fix=fix) from None
    return onnx, onnxruntime


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
