"""Which device and which number format to compute with; what lies there, and how it gets there."""

import os
import shlex
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.core.progress import say

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]

_RESIDENT_SHARE = 0.5  # of what is free on a device: the rest is for networks and their activations
_COPIED_AHEAD = 2  # batches

_COMPILERS = {  # that torch calls: the variable that names one, and what is tried without it
    "cpu": ("CXX", ["clang++"] if sys.platform == "darwin" else ["g++"]),
    "cuda": ("CC", ["gcc", "clang"]),
}

_TRIAL_STEPS = 6
_WORTHWHILE = 0.7  # of a float32 step: far from 1, so that noise does not decide between a student and its twin


def choose_device(name: str, local_index: int = 0) -> torch.device:
    """The device by name; `auto` is CUDA where there is one, else the CPU. Raises ConfigError where it is not there.

    Args:
        local_index: Of this process among those on its machine, which take its GPUs in turn.
    """
    available: dict[str, bool] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available.get(name):
        there = ", ".join(["auto", *(kind for kind, yes in available.items() if yes)])
        raise ConfigError(f"device {name!r}", "not on this machine", expected=f"one of: {there}")
    return torch.device(name, local_index % torch.cuda.device_count()) if name == "cuda" else torch.device(name)


def has_room(device: torch.device, num_bytes: int) -> bool:
    """Whether data of this size should lie on a CUDA device as long as a stage runs: never on others, whose memory is the
    machine's own."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= _RESIDENT_SHARE * free


def copied_ahead(groups: Iterable[Sequence[torch.Tensor]], device: torch.device) -> Iterator[Sequence[torch.Tensor]]:
    """Groups of tensors of this machine's memory on a device, each of which travels while the one before is worked on.

    On CUDA they go through pinned memory and a queue of their own, and the last but one must have been worked on before
    another one leaves, so that no more than a few are anywhere.
    """
    if device.type != "cuda":
        yield from ([tensor.to(device) for tensor in group] for group in groups)
        return
    copies, work = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    travelling: deque[tuple[list[torch.Tensor], torch.cuda.Event]] = deque()
    worked_on: deque[torch.cuda.Event] = deque()

    def arrived() -> Sequence[torch.Tensor]:
        group, event = travelling.popleft()
        work.wait_event(event)
        for tensor in group:
            tensor.record_stream(work)
        return group

    for group in groups:
        with torch.cuda.stream(copies):
            travelling.append(
                ([tensor.pin_memory().to(device, non_blocking=True) for tensor in group], copies.record_event())
            )
        if len(travelling) == _COPIED_AHEAD:
            yield arrived()
            worked_on.append(work.record_event())
            if len(worked_on) == _COPIED_AHEAD:
                worked_on.popleft().synchronize()
    while travelling:
        yield arrived()


def in_own_queue(device: torch.device) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """What makes work ready to be done in another thread: it begins when the device has computed all that this thread has
    asked for so far, and does not wait for what is asked for later. Only CUDA has such queues."""
    if device.type != "cuda":
        return lambda work: work
    queue = torch.cuda.Stream(device, priority=-1)  # before the other work: it is little, and memory waits for it

    def ready(work: Callable[[], None]) -> Callable[[], None]:
        asked_for = torch.cuda.current_stream(device).record_event()

        def begin() -> None:
            with torch.cuda.stream(queue):
                queue.wait_event(asked_for)
                work()
                queue.synchronize()  # before what it has read is given away

        return begin

    return ready


def choose_precision(precision: Precision, model: nn.Module, images: torch.Tensor, device: torch.device) -> torch.dtype:
    """The number format to train in: `auto` is bfloat16 on CUDA, and on a CPU where a short trial shows it faster.

    A CPU without bfloat16 instructions emulates it and is not tried.
    """
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu" or not _cpu_has_bfloat16():
        return torch.float32
    seconds = _trial_seconds(model, images)
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    chosen = torch.bfloat16 if ratio < _WORTHWHILE else torch.float32
    say(f"precision: a bfloat16 step takes {ratio:.2f} of a float32 step here, so {str(chosen).removeprefix('torch.')}")
    return chosen


def inference_precision(precision: Precision, trained_in: str, device: torch.device) -> str:
    """The number format that a trained network is run in, `float32` or `bfloat16`; no clock has a say in it.

    `auto` is bfloat16 on a CUDA device that has it, and on a CPU that has it for a network that was trained so.
    """
    if precision != "auto":
        return precision
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    on_cpu = device.type == "cpu" and trained_in == "bfloat16" and _cpu_has_bfloat16()
    return "bfloat16" if on_gpu or on_cpu else "float32"


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Runs what bears it (convolutions, products of matrices) in this number format, `float32` or `bfloat16`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def check_compiler(device: torch.device, where: str) -> None:
    """Raises ConfigError where torch can't compile networks for a device, for want of a compiler.

    Whoever asks for it gets a network compiled when it is first called, for each mode and shape anew, 5 to 20 seconds
    each; its last bits are rounded otherwise. On two cores of an AMD EPYC this made networks 0.7 to 1.3 times as fast
    (docs/log.md), so nobody gets it unasked.
    """
    variable, names = _COMPILERS.get(device.type, _COMPILERS["cuda"])
    names = shlex.split(os.environ.get(variable, ""))[:1] or names
    if not any(map(shutil.which, names)):
        found = f"no {' or '.join(names)} on this machine"
        raise ConfigError(where, found, expected=f"a compiler that torch can call ({variable})", fix="compile: false")


def _cpu_has_bfloat16() -> bool:
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _trial_seconds(model: nn.Module, images: torch.Tensor) -> dict[torch.dtype, float]:
    """The fastest of a few forward and backward passes in either format, in turn, so that other work on the machine hits both
    alike; parameters and statistics are left as they were, gradients cleared."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fastest = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(_TRIAL_STEPS):
        for dtype in fastest:
            start = time.perf_counter()
            with computing_in(str(dtype).removeprefix("torch."), torch.device("cpu")):
                loss = model(images).float().logsumexp(dim=1).mean()
            loss.backward()
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
    return fastest
