"""Logits of many batches, in smaller ones where memory is short."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Integer
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.core.progress import say
from pipeline.core.shortage import is_out_of_memory
from pipeline.models.faults import naming_faults
from pipeline.models.forms import has_maps
from pipeline.models.precision import computing_in
from pipeline.signals import Signal

_CPU = torch.device("cpu")
_PIXELS_AT_ONCE = 1 << 20  # a layer of 64 channels then takes 256 MiB

#: The images at once that fit in memory here, by network, where that was less than a batch: each
#: block of a dump would have to find it out again otherwise.
_bearable: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def predict_logits(
    model: nn.Module,
    batches: Iterable[Integer[torch.Tensor, "_ ..."]],
    device: torch.device,
    *,
    on_batch: Callable[[int], object] = lambda count: None,
    left_on: torch.device = _CPU,
    precision: str = "float32",
) -> Float[torch.Tensor, "samples classes *grid"]:
    """Returns float32 logits in the batches' order, of the network in eval mode.

    Its mode is put back afterwards.

    A batch that does not fit in the device's memory is halved, and so are those that follow. A CUDA
    device is not waited for before the last batch.

    Args:
        on_batch: Called with each batch's number of samples once the device was told to work on it,
            for progress.
        left_on: Where the logits are: on the CPU, or on the device, where they are perhaps not yet
            computed.
        precision: What the network computes in, `float32` or `bfloat16`.

    Raises:
        ModelError: There is no memory for a single image.
    """
    # From a CUDA device this copies into pinned memory, behind our back; other kinds need to be
    # waited for.
    logits = [
        some.to(left_on, non_blocking=device.type == "cuda")
        for some in predict_each(model, batches, device, on_batch=on_batch, precision=precision)
    ]
    if device.type == "cuda" and left_on.type == "cpu":
        torch.cuda.current_stream(device).synchronize()
    with torch.inference_mode():
        return torch.cat(logits)


def predict_each(
    model: nn.Module,
    batches: Iterable[Integer[torch.Tensor, "_ ..."]],
    device: torch.device,
    *,
    on_batch: Callable[[int], object] = lambda count: None,
    precision: str = "float32",
) -> Iterator[Float[torch.Tensor, "_ classes *grid"]]:
    """Yields the same piece by piece, on the device, for who keeps less than all of it."""
    was_training = model.training
    model.eval()
    try:
        for images in batches:
            yield from _in_pieces(model, images, device, precision)
            on_batch(len(images))
    finally:
        model.train(was_training)


def at_once(most: int, signal: Signal, image_shape: Sequence[int]) -> int:
    """Returns how many images are predicted at once: fewer where a class is given for each pixel,
    because all layers then are about as large as the image.
    """
    return max(1, min(most, _PIXELS_AT_ONCE // math.prod(image_shape[1:]))) if has_maps(signal) else most


def _in_pieces(
    model: nn.Module, images: Integer[torch.Tensor, "_ ..."], device: torch.device, precision: str
) -> Iterator[Float[torch.Tensor, "_ classes *grid"]]:
    """Yields the logits of a batch, of as many images at once as fit in memory."""
    done, halved = 0, False
    at_once = max(1, min(_bearable.get(model, len(images)), len(images)))
    while done < max(1, len(images)):  # of no images, too, a network shows how many classes it has
        logits = _forward(model, images[done : done + at_once], device, precision)
        if logits is not None:
            yield logits
            done += at_once
            continue
        if at_once == 1:
            raise ModelError(
                f"memory of {device}",
                "too little for a forward pass of one image",
                expected="room for one",
                fix="free some, choose another device, or take a smaller network",
            )
        at_once, halved = at_once // 2, True
        if device.type == "cuda":
            torch.cuda.empty_cache()  # in pieces of the sizes that were asked for until now
    if halved:
        say(f"out of memory on {device} with {len(images)} images at once: going on with {at_once}")
        _bearable[model] = at_once


@torch.inference_mode()
def _forward(
    model: nn.Module, images: Integer[torch.Tensor, "_ ..."], device: torch.device, precision: str
) -> Float[torch.Tensor, "_ classes *grid"] | None:
    """Returns float32 logits on the device; None where its memory does not suffice.

    A function of its own, because an error that is being handled holds every tensor of the pass.
    """
    try:
        with torch.inference_mode(), naming_faults(model), computing_in(precision, device):
            logits: torch.Tensor = model(images.to(device, non_blocking=True)).float()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return logits
