"""Logits of a teacher that ran elsewhere, and whether they are what they are said to be."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.core.errors import ModelError
from pipeline.labelling.imported_files import ImportedRows, read_rows, refuse_wrong
from pipeline.models.output_kinds import SUM_TOLERANCE, OutputKind, are_distributions, as_logits
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL


@dataclass(frozen=True)
class ImportedLogits(ImportedRows):
    """The logits of a teacher that ran elsewhere, row by row.

    Attributes:
        are_probabilities: Whether the values are probabilities, not logits.
        digest: The fingerprint of the values, where `where` is no file.
        note: A line about what the values stand for, where that is not the image as it is.
        signal: The meaning of the data's classes.
    """

    are_probabilities: bool
    digest: str | None = None
    note: str | None = None
    signal: Signal = CATEGORICAL

    def take(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some outputs"]:
        """Returns finite logits of some rows; raises ModelError with the first that has none."""
        values = torch.from_numpy(np.asarray(self.values[rows], dtype=np.float32))
        wrong, expected = ~torch.isfinite(values), "finite logits"
        if self.are_probabilities:
            wrong |= (values < 0) | (values > 1 + SUM_TOLERANCE)
            expected = "probabilities, 0 to 1"
        refuse_wrong(self, rows, values, wrong, expected)
        probabilities: OutputKind = "sigmoids" if self.signal.is_independent else "probabilities"
        return as_logits(values, probabilities if self.are_probabilities else "logits")

    def check_kind(self, rows: Int64[np.ndarray, " some"]) -> None:
        """Raises ModelError where the values of some rows are probabilities and are not said to be,
        or the reverse.
        """
        values = torch.from_numpy(np.asarray(self.values[rows], dtype=np.float64))
        if self.signal.is_independent:  # each probability is one by itself; `take` checks that it is
            if not self.are_probabilities and bool(((values >= 0) & (values <= 1)).all()):
                raise ModelError(
                    self.where, "all are within 0 and 1: these are probabilities", fix="say --probabilities"
                )
            return
        sum_up = are_distributions(values)
        if sum_up and not self.are_probabilities:
            raise ModelError(self.where, "rows sum up to 1: these are probabilities", fix="say --probabilities")
        if self.are_probabilities and not sum_up:
            raise ModelError(
                self.where, "rows do not sum up to 1", expected="probabilities", fix="leave out --probabilities"
            )


def read_logits(path: Path, ids: str | None, samples: Path, *, are_probabilities: bool) -> ImportedLogits:
    """Reads the logits in a file, as `read_rows` does."""
    rows = read_rows(path, ids, samples, "logits")
    return ImportedLogits(rows.where, rows.values, rows.sample_ids, rows.names, are_probabilities)
