"""A network that takes rows of a table: the codes of their columns."""

import torch
from jaxtyping import Int32, Int64

from pipeline.models.classifier import Classifier


class RowClassifier(Classifier):
    """A network that takes the code of each column, and looks up what it stands for itself."""

    input_name = "codes"

    def to_network(self, inputs: Int32[torch.Tensor, "batch columns"]) -> Int64[torch.Tensor, "batch columns"]:
        return inputs.long()
