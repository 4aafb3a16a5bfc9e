"""Logit standardisation: z-scores of each example's logits."""

import torch
from jaxtyping import Float

_MIN_STD = 1e-7


def standardise(scores: Float[torch.Tensor, "batch classes"]) -> Float[torch.Tensor, "batch classes"]:
    """Returns each row's z-scores: a shift of the logits, or a factor, changes nothing.

        (z - mean(z)) / (std(z) + 1e-7), std unbiased

    So a temperature times the log-probabilities at it gives the same as the logits.

    >>> student = torch.tensor([[2, -1, 0.5, 0], [0.3, 1.2, -0.7, 2.2], [-1.5, 0, 3, 1]])
    >>> [f"{score:.5f}" for score in standardise(student)[0]]
    ['1.30000', '-1.10000', '0.10000', '-0.30000']

    References:
        Shangquan Sun, Wenqi Ren, Jingzhi Li, Rui Wang, Xiaochun Cao, "Logit Standardization in
        Knowledge Distillation", 2024, arXiv 2403.01427, section 4.
    """
    return (scores - scores.mean(dim=1, keepdim=True)) / (scores.std(dim=1, keepdim=True) + _MIN_STD)
