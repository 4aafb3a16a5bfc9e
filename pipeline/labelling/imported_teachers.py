"""Teachers that ran elsewhere: what they predict for samples of this data, found by sample id."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64

from pipeline.core.errors import ModelError
from pipeline.core.files import file_fingerprint, fingerprint
from pipeline.data.sample_ids import find_samples
from pipeline.labelling.imported_files import ImportedRows, What, read_rows, refuse_wrong
from pipeline.labelling.imported_logits import ImportedLogits
from pipeline.labelling.settings import ImportedClasses
from pipeline.models import group_table, join_outputs, match_classes, read_class_names
from pipeline.models.output_kinds import check_meaning

_LOOKED_AT = 10_000  # rows at most, to decide whether values are probabilities


class TeacherElsewhere(ABC):
    """A teacher that ran elsewhere, and the rows that it left.

    Args:
        content: The fingerprint of the values.
        decides: What else decides its labels.
    """

    what: ClassVar[What]

    def __init__(self, rows: ImportedRows, content: str, *decides: Any) -> None:
        self.where, self._sample_ids = rows.where, rows.sample_ids
        ids = fingerprint([f"{i:016x}" for i in rows.sample_ids.tolist()])
        self.fingerprint = fingerprint([content, ids, *decides])

    @property
    def facts(self) -> dict[str, Any]:
        """The facts about it that a store states."""
        return {"fingerprint": self.fingerprint, "model": f"imported {self.what}"}

    def find(self, sample_ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
        """Returns the row of each sample, -1 for samples that have none."""
        return find_samples(sample_ids, self._sample_ids)

    def rows_of(self, sample_ids: UInt64[np.ndarray, " samples"]) -> Int64[np.ndarray, " samples"]:
        """Returns the row of each training sample; raises ModelError where one has none."""
        rows = self.find(sample_ids)
        lacking = np.flatnonzero(rows < 0)
        if len(lacking):
            found = f"no {self.what} for {len(lacking):,} of {len(rows):,} training samples"
            first = f"the first is sample {int(sample_ids[lacking[0]]):016x}, see samples.tsv"
            raise ModelError(self.where, f"{found} ({first})", expected="one row for each")
        return rows

    @abstractmethod
    def take(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some numbers"]:
        """Returns what it predicts in some rows; raises ModelError where a value is none."""


class ImportedTeacher(TeacherElsewhere):
    """A teacher's logits, as logits of this data's classes.

    Args:
        groups: The outputs that make each class, where outputs and classes are not the same.
    """

    what = "logits"

    def __init__(self, imported: ImportedLogits, groups: list[list[int]] | None) -> None:
        content = imported.digest or file_fingerprint(imported.where)
        super().__init__(imported, content, groups, imported.are_probabilities)
        self._imported, self.groups = imported, groups
        self._table = None if groups is None else group_table(groups)
        self.note = {"note": imported.note} if imported.note else {}

    @classmethod
    def of(cls, imported: ImportedLogits, classes: ImportedClasses, class_names: list[str], where: str) -> Self:
        """Returns the teacher whose outputs the settings at `where` match to the classes of this
        data.

        Raises ConfigError where outputs and classes do not match, ModelError where the values are
        of another kind."""
        names = read_class_names(classes.teacher_classes, f"{where}.teacher_classes") or imported.names
        outputs = imported.values.shape[1]
        imported.check_kind(np.arange(min(len(imported.values), _LOOKED_AT)))
        groups = match_classes(class_names, names, classes.class_map, outputs, where)
        check_meaning(None, groups, imported.signal, where)
        return cls(imported, groups)

    def take(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some classes"]:
        values = self._imported.take(rows)
        return values if self._table is None else join_outputs(values, self._table)


class ImportedEmbeddings(TeacherElsewhere):
    """A teacher's embeddings."""

    what = "embeddings"

    def __init__(self, rows: ImportedRows) -> None:
        super().__init__(rows, file_fingerprint(rows.where))
        self._rows = rows

    @classmethod
    def read(cls, path: Path, ids: str | None, samples: Path) -> Self:
        """Reads the embeddings in a file, as `read_rows` does."""
        return cls(read_rows(path, ids, samples, "embeddings"))

    @property
    def dimensions(self) -> int:
        """The dimensions of an embedding."""
        return int(self._rows.values.shape[1])

    def take(self, rows: Int64[np.ndarray, " some"]) -> Float[torch.Tensor, "some dimensions"]:
        values = torch.from_numpy(np.asarray(self._rows.values[rows], dtype=np.float32))
        refuse_wrong(self._rows, rows, values, ~torch.isfinite(values), "finite numbers")
        return values
