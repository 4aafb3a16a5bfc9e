"""torch's optimizers without torch's compiler."""

import inspect
from typing import TypeVar, cast

import torch
from torch.optim import SGD, AdamW, Optimizer

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)
_KEPT_FROM_COMPILING = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def lean(kind: type[AnyOptimizer]) -> type[AnyOptimizer]:
    """Returns an optimizer class that does the same arithmetic without importing `torch._dynamo`.

    torch's own import it at their first use, to tell a compiler that is not at work here to keep
    away. That takes 78 MB and 1 to 5 s of every training process (torch 2.13 and 2.15, `python -m
    benchmarks.memory`): more than a small student, its data and all its other libraries. Where
    another version of torch is built differently, the class still works, at that cost.
    """
    for name in _KEPT_FROM_COMPILING:
        method = inspect.unwrap(getattr(Optimizer, name))
        setattr(method, "__dynamo_disable", method)  # what torch keeps there after importing
    step = inspect.unwrap(kind.step)
    lean_step = torch.no_grad()(lambda self: step(self))
    return cast(type[AnyOptimizer], type(kind.__name__, (kind,), {"step": lean_step}))


LeanAdamW, LeanSGD = lean(AdamW), lean(SGD)
