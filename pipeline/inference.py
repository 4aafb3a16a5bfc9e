"""predict_logits: a network over batches of pixels."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, UInt8
from torch import nn


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    batches: Iterable[UInt8[torch.Tensor, "_ channels height width"]],
    device: torch.device,
    *,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Float[torch.Tensor, "samples classes"]:
    """Float32 logits on the CPU, in the batches' order, with the network in eval mode (it is put back afterwards).

    Args:
        on_batch: Called with each batch's number of samples, for progress.
    """
    was_training = model.training
    model.eval()
    try:
        logits = []
        for images in batches:
            logits.append(model(images.to(device, non_blocking=True)).float().cpu())
            on_batch(len(images))
        return torch.cat(logits)
    finally:
        model.train(was_training)
