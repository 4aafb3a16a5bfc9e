"""A CUDA device that is not there: torch's fake tensors have its device, its shapes and its types,
and no values.

A product of tensors on two devices raises there as on a device, and so does whatever would wait
for it: a number that Python asks for, a copy to the processor. What lies on the processor is real.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cuda", 0)
_TOP = Path(__file__).parents[1]
_ROOMS = tuple(_TOP / room for room in ("pipeline", "potstill", "stages"))  # a .venv lies in _TOP too

#: The places that wait for the device, and why they must.
WAITS = {
    "pipeline/labels/fields.py: encode_logits": "labels leave the device to be written",
    "pipeline/models/text_classifier.py: to_network": "the longest text decides how much is computed",
    "pipeline/training/validation.py: logits": "of maps, what is kept of each piece leaves the device",
}
_NUMBER = 3  # stands for one that a place may wait for


class WaitingError(Exception):
    """An error that something waits for the device."""


class Queue:
    """The device's queue of work; it counts how often somebody waits for all of it."""

    waits = 0

    @classmethod
    def synchronize(cls) -> None:
        cls.waits += 1


class _Watch(TorchDispatchMode):
    """A watch over every operation: on the processor it is carried out, on the device it is not,
    and what waits for the device is refused.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, torch.Tensor)]
        device = given.get("device")
        is_there = any(isinstance(each, FakeTensor) for each in tensors)
        if not is_there and (device is None or torch.device(device).type == "cpu"):
            with _disable_current_modes():
                return func(*args, **given)
        whole = func.name().startswith("aten::to.")  # so it comes in inference mode, not in its parts
        try:
            found = (func.decompose if whole else func)(*args, **given)
        except (DataDependentOutputException, DynamicOutputShapeException):
            if _place() in WAITS:
                return _NUMBER
            raise WaitingError(f"{_place()} asks the device for a number ({func})") from None
        if any(each.device.type == "cuda" for each in tensors):
            named = dict(zip((each.name for each in func._schema.arguments), args, strict=False)) | given
            for each in [] if named.get("non_blocking") else tree_leaves(found):
                if isinstance(each, torch.Tensor) and each.device.type == "cpu" and _place() not in WAITS:
                    raise WaitingError(f"{_place()} copies from the device ({func})")
        return found


def _place() -> str:
    """Returns the file and the function of the project's own code that is being carried out."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        is_part = frame.f_code.co_name.startswith("<")  # a comprehension: of the function around it
        if not is_part and any(path.is_relative_to(room) for room in _ROOMS):
            return f"{path.relative_to(_TOP)}: {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "a test"


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has tensors on `DEVICE` be fake ones, and autocast be as on a device with bfloat16."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr("torch.cuda.current_stream", lambda *_: Queue)
    Queue.waits = 0
    with FakeTensorMode(allow_non_fake_inputs=True), _Watch():
        yield
