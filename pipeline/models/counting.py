"""The size of a network, and the arithmetic of its forward pass."""

import torch
from jaxtyping import Integer
from torch import nn

from pipeline.models.estimators import EstimatorNetwork
from pipeline.models.onnx import OnnxNetwork

_IN_FILES = (OnnxNetwork, EstimatorNetwork)  # whose numbers are in a file of their own


def count_parameters(model: nn.Module) -> int:
    """Returns the number of trained parameters.

    Normalisation statistics are not counted, except those in an ONNX file, which does not mark
    them. Of an estimator all numbers in its arrays are counted.
    """
    in_files = sum(module.num_parameters for module in model.modules() if isinstance(module, _IN_FILES))
    return in_files + sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, blank: Integer[torch.Tensor, "1 ..."]) -> int | None:
    """Returns the multiply-adds of convolutions and linear layers for one sample.

    None for a network that another library runs.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings Triton with it, 74 MB that training does without

    if any(isinstance(module, _IN_FILES) for module in model.modules()):
        return None
    was_training = model.training
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(blank)
    model.train(was_training)
    return int(counter.get_total_flops()) // 2
