"""Views of rows: columns whose value is taken from the partner in the block, or is lost."""

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Int64
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.core.seeding import philox
from pipeline.data.row_columns import MISSING
from pipeline.views.operations.base import Operation, Probability, SampleOperation
from pipeline.views.operations.mixing import Mixing

_KEY = 0x636F6C756D6E73  # of the words that are drawn for columns

#: Numbers of columns, from 0 on, in the order of the data set; None: all of them.
Numbers = Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 20)], ...], Field(min_length=1)] | None


def chosen_columns(
    draws: Int64[torch.Tensor, "batch three"], count: int, numbers: Sequence[int] | None
) -> Bool[torch.Tensor, "batch columns"]:
    """Returns the columns that are drawn: each on its own, with the probability of its row's draw.

    Args:
        draws: A probability in units of 2^-32, and two random words of which those of all columns
            are made: so a row needs three numbers however many columns it has.
    """
    place = torch.arange(count, device=draws.device).expand(len(draws), -1)
    low, high = (draws[:, at, None].expand(-1, count) for at in (1, 2))
    chosen: torch.Tensor = philox(_KEY, (low, high, place, torch.zeros_like(place)))[0] < draws[:, :1]
    if numbers is not None:
        allowed = torch.zeros(count, dtype=torch.bool, device=draws.device)
        allowed[list(numbers)] = True
        chosen = chosen & allowed
    return chosen


class _SomeColumns(Operation):
    """An operation that happens to columns by chance: to `share` of those that `columns` names."""

    share: float
    columns: Numbers

    input_kind = "row"
    num_words = 2

    @property
    def still(self) -> tuple[int, ...]:
        return (0, 0, 0)

    def draw(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the probability in units of 2^-32, and two words for `chosen_columns`."""
        return torch.stack([torch.full_like(words[0], round(self.share * 2**32)), words[0], words[1]], dim=1)

    def check(self, input_shape: Sequence[int], where: str) -> None:
        if wrong := [number for number in self.columns or () if number >= input_shape[0]]:
            found = f"{wrong[0]}, and rows have {input_shape[0]} columns"
            raise ConfigError(f"{where}.columns", found, expected=f"0 to {input_shape[0] - 1}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DropColumns(_SomeColumns, SampleOperation):
    """A view in which columns lose their value: each with probability `share`, of those that
    `columns` names.

    References:
        Nitish Srivastava, Geoffrey Hinton, Alex Krizhevsky, Ilya Sutskever, Ruslan Salakhutdinov,
        "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014, section 4 (of
        inputs).
    """

    kind: Literal["drop_columns"] = "drop_columns"
    share: Probability
    columns: Numbers = field(default=None)

    def apply(self, inputs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return inputs.masked_fill(chosen_columns(draws, inputs.shape[1], self.columns), MISSING)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SwapColumns(_SomeColumns, Mixing):
    """A view in which columns take the partner's value: each with probability `share`, of those
    that `columns` names. The hard label stays the row's own; the teacher labels the view as it is.

    References:
        Dara Bahri, Heinrich Jiang, Yi Tay, Donald Metzler, "SCARF: Self-Supervised Contrastive
        Learning using Random Feature Corruption", 2021, arXiv 2106.15147, section 3 (values are
        drawn from other rows).
    """

    kind: Literal["swap_columns"] = "swap_columns"
    share: Annotated[float, Field(ge=0, le=0.5)]
    columns: Numbers = field(default=None)

    mixes_labels = False

    def mix(self, inputs: torch.Tensor, partners: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return torch.where(chosen_columns(draws, inputs.shape[1], self.columns), partners, inputs)

    def own_shares(self, draws: torch.Tensor, input_shape: Sequence[int]) -> torch.Tensor:
        """Returns 1 for each row: what is taken from a partner is noise, and no label of it."""
        return torch.ones(len(draws))
