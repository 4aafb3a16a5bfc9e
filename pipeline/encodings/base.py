"""What every encoding is: a frozen dataclass that turns log-probabilities into plain arrays and back."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Shaped


@dataclass(frozen=True)
class Field:
    """One array of a store: what an encoding keeps of each label, in a dtype that any Zarr library reads.

    `fill_value` is a value that no label has, so that a block that was never written is seen.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill_value: float | int

    def is_unwritten(self, values: np.ndarray) -> bool:
        """Whether any entry of a range that was read holds the fill value."""
        missing = np.isnan(values) if isinstance(self.fill_value, float) else values == self.fill_value
        return bool(missing.any())


class Encoding(ABC):
    """Writes log-probabilities (natural log) at the store's temperature as fields; reads them at any it can serve.

    Subclasses are frozen dataclasses; their attributes are the settings in `params.yaml` and in the manifest.
    """

    kind: ClassVar[str]

    @abstractmethod
    def fields(self, num_classes: int) -> dict[str, Field]:
        """The arrays that hold one label each."""

    @abstractmethod
    def encode(self, log_probs: Float[torch.Tensor, "labels classes"]) -> dict[str, Shaped[torch.Tensor, "labels ..."]]:
        """Fields of finite log-probabilities, on the device that these are on."""

    @abstractmethod
    def decode(
        self, fields: dict[str, Shaped[torch.Tensor, "labels ..."]], *, stored_temperature: float, temperature: float
    ) -> Float[torch.Tensor, "labels classes"]:
        """Normalised float32 log-probabilities at `temperature`, from fields written at `stored_temperature`."""

    def to_dict(self) -> dict[str, Any]:
        """The row that makes this encoding again."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]
