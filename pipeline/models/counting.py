"""The size of a network, and the arithmetic of its forward pass."""

import torch
from jaxtyping import Integer
from torch import nn

from pipeline.models.onnx import OnnxNetwork


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trained parameters.

    Normalisation statistics are not counted, except those in an ONNX file, which does not mark
    them.
    """
    in_files = sum(module.num_parameters for module in model.modules() if isinstance(module, OnnxNetwork))
    return in_files + sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, blank: Integer[torch.Tensor, "1 ..."]) -> int | None:
    """Returns the multiply-adds of convolutions and linear layers for one sample.

    None for a network that another library runs.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings Triton with it, 74 MB that training does without

    if any(isinstance(module, OnnxNetwork) for module in model.modules()):
        return None
    was_training = model.training
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(blank)
    model.train(was_training)
    return int(counter.get_total_flops()) // 2
