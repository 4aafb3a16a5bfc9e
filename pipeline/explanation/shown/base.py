"""A way to show samples of a kind, and to find what predictions on them rest on."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, UInt8

from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import InputKindName
from pipeline.explanation.settings import Explain
from pipeline.results.explanation import Part

#: A sample, as it is stored: its kind says what its numbers are.
Sample = Integer[torch.Tensor, "..."]
#: What each place of a picture, or each part, adds to a class, in nats.
Attribution = Float[np.ndarray, "samples ..."]


@dataclass(frozen=True)
class Network:
    """A network that is asked about samples.

    Attributes:
        values_of: Returns log-probabilities or log-odds of samples, [samples, classes], in float64.
        classes: The class to ask for, of each sample.
    """

    values_of: Callable[[torch.Tensor], torch.Tensor]
    classes: Int64[torch.Tensor, " samples"]
    device: torch.device


class Shower(ABC):
    """A way to show samples of a kind."""

    kind: ClassVar[InputKindName]

    @classmethod
    @abstractmethod
    def of(cls, dataset: ImageDataset) -> Self:
        """Returns the way to show samples of a data set."""

    @abstractmethod
    def method(self, settings: Explain) -> str:
        """Returns how pieces are covered, in words."""

    @abstractmethod
    def attribute(
        self, network: Network, inputs: Integer[torch.Tensor, "samples ..."], settings: Explain
    ) -> Attribution:
        """Returns the nats by which the log-probability of a class (of independent ones, its
        log-odds) falls where a place of the picture, or a part, is covered.

        It is the mean over the pieces that cover it: positive where it speaks for the class,
        negative where against; NaN where a sample has no such place.
        """


class PictureShower(Shower):
    """A way to show samples as pictures."""

    @property
    @abstractmethod
    def picture_px(self) -> tuple[int, int]:
        """The height and width of pictures."""

    @abstractmethod
    def picture(self, sample: Sample) -> UInt8[np.ndarray, "channels height width"]:
        """Returns the picture of a sample; maps have its height and width."""


class PartShower(Shower):
    """A way to show samples as parts, in words."""

    @abstractmethod
    def parts(self, sample: Sample, plain: Sample | None = None) -> list[Part]:
        """Returns the parts of a sample, as many as attributions are of it.

        Args:
            plain: The sample of which this one is a view: parts then say what has changed, and
                those that are gone are among them.
        """

    def text(self, parts: list[Part]) -> str:
        """Returns parts as a line for a terminal."""
        return " ".join(_MARKS[part.change].format(part.shown) for part in parts)


#: How a terminal shows what has become of a part.
_MARKS = {None: "{}", "dropped": "[-{}-]", "hidden": "[?{}?]", "added": "{{+{}+}}", "changed": "{{+{}+}}"}
