"""The abstract loss of features: a row of settings that is called on a batch."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

Features = Float[Tensor, "batch own"]
Stored = Float[Tensor, "batch stored"]


class FeatureLoss(ABC):
    """A loss of a student's embeddings against stored ones. Subclasses are frozen dataclasses, the
    kinds of row; each calls the function of its file.
    """

    #: The name in `params.yaml`.
    kind: ClassVar[str]
    #: Whether the student's embedding first goes through a learned projection, to as many
    #: dimensions as are stored.
    projects: ClassVar[bool] = False
    #: Whether it compares the examples of a batch, so that processes can't share one.
    compares_examples: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, features: Features, stored: Stored) -> Float[Tensor, ""]:
        """Returns the mean loss of a batch."""
