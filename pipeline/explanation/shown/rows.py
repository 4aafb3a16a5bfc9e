"""Rows of a table, shown by their columns."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from jaxtyping import Integer

from pipeline.core.seeding import derive_seed
from pipeline.data.dataset import ImageDataset
from pipeline.data.row_columns import MISSING, Column, Columns
from pipeline.data.sample_ids import id_draws
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown.base import Attribution, Network, PartShower, Sample
from pipeline.explanation.shown.occlusion import occlude
from pipeline.results.explanation import Change, Part

_OTHERS = 16  # training rows whose values stand in for a row's own


class RowShower(PartShower):
    """A way to show rows, and the columns that count in them.

    A column is covered by the values that other rows have in it, and the loss is the mean over
    these: a network knows them all, and it may never have seen a value that is missing.

    Args:
        others: Some training rows, drawn by their ids.
    """

    kind = "row"

    def __init__(self, columns: Sequence[Column], others: Integer[torch.Tensor, "others columns"]) -> None:
        self._columns, self._others = columns, others

    @classmethod
    def of(cls, dataset: ImageDataset) -> Self:
        train = dataset.stream("train")
        drawn = np.argsort(id_draws(derive_seed(0, "shown"), train.sample_ids), kind="stable")[:_OTHERS]
        return cls(Columns.of_facts(dataset.manifest.input or {}).columns, train.take(drawn).inputs)

    def parts(self, sample: Sample, plain: Sample | None = None) -> list[Part]:
        codes = sample.tolist()
        before = codes if plain is None else plain.tolist()
        return [
            Part(name=column.name, text=column.text(code), change=_change(code, old))
            for column, code, old in zip(self._columns, codes, before, strict=True)
        ]

    def method(self, settings: Explain) -> str:
        return f"occlusion of a column by its values in {len(self._others)} training rows, the mean over these"

    def attribute(
        self, network: Network, inputs: Integer[torch.Tensor, "samples ..."], settings: Explain
    ) -> Attribution:
        num_columns, others = len(self._columns), self._others
        places = np.repeat(np.eye(num_columns, dtype=bool), len(others), axis=0)
        found = np.zeros(inputs.shape)
        for number, row in enumerate(inputs):
            covered = torch.where(torch.from_numpy(places), others.repeat(num_columns, 1), row)
            found[number] = occlude(network, number, row, [(covered, places)], settings.batch_size)
        return found


def _change(code: int, before: int) -> Change | None:
    """Returns what has become of a cell."""
    if code == before:
        return None
    return "dropped" if code == MISSING else "changed"
