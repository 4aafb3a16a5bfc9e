"""DistillKit's captured log-probabilities: a folder of Parquet files and compression_config.yaml.

A row has `input_ids`, and for each position of a text `compressed_logprobs` and
`bytepacked_indices`, lists of bytes. DistillKit writes rows in the order in which its threads end,
and no name of a sample. So a column of names must have been added, and it is named with `--ids`.

A label here is of one class per sample: rows of one position are read (a teacher that answers with
one token), those of a text are refused. `class_map` in params.yaml names the tokens of each class.

References:
    github.com/arcee-ai/DistillKit, distillkit/sample_logits_vllm.py and sample_common.py.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipeline.core.config import load_params, validate
from pipeline.core.errors import DataError
from pipeline.core.plain_files import odd_file
from pipeline.labelling.foreign.base import ForeignLabels, ViewLabels, need_some
from pipeline.labelling.foreign.distillkit_values import Compression, log_probs_of, outputs_of
from pipeline.labelling.parquet_files import need_columns, open_parquet

CONFIG = "compression_config.yaml"
_COLUMNS = ["compressed_logprobs", "bytepacked_indices"]
_MOST_BYTES = 1 << 20  # of the settings
_AT_ONCE = 1024  # rows: a label unpacks to some kB


class DistillKit(ForeignLabels):
    """The folder that DistillKit captured a teacher into, with a column of names in its files."""

    views = "inputs as DistillKit's teacher saw them"
    tolerance = 0.05  # a polynomial stands for most values
    takes_ids = True

    def find(self) -> list[Path]:
        self.num_outputs = self.settings.d
        files = sorted(self.path.glob("*.parquet"), key=_number)
        return need_some(files, self.path, "Parquet files, data_<n>.parquet")

    @cached_property
    def settings(self) -> Compression:
        """The settings by which values and outputs were packed."""
        file = self.path / CONFIG
        if not file.exists() or odd_file(file, _MOST_BYTES):
            found = odd_file(file, _MOST_BYTES) or "no such file"
            raise DataError(file, found, expected="the settings that DistillKit wrote beside its labels")
        settings: Compression = validate(Compression, load_params(file), str(file))
        if settings.fault:
            raise DataError(file, settings.fault)
        return settings

    def read(self, file: Path) -> Iterator[ViewLabels]:
        if self.ids is None:
            raise DataError(file, "its rows have no names", expected="--ids COLUMN: the name of each row's sample")
        with open_parquet(file) as table:
            need_columns(table, [self.ids, *_COLUMNS], file)
            for batch in table.iter_batches(_AT_ONCE, columns=[self.ids, *_COLUMNS], use_threads=False):
                names, (values, outputs) = batch.column(self.ids).to_pylist(), _lists(batch, file)
                log_probs = log_probs_of(_one_label_each(values, self.settings.value_bytes, file), self.settings)
                kept = outputs_of(_one_label_each(outputs, self.settings.index_bytes, file), self.settings)
                with np.errstate(over="ignore"):  # refused as more than 1
                    yield ViewLabels([str(name) for name in names], kept, np.exp(log_probs).astype(np.float32))


def _lists(batch: Any, file: Path) -> list[Sequence[Any]]:
    """Returns both columns of labels; raises DataError where they are not bytes by position."""
    from pyarrow import list_, uint8

    try:
        return [batch.column(name).cast(list_(list_(uint8()))).to_pylist() for name in _COLUMNS]
    except (ValueError, NotImplementedError) as error:  # pyarrow's errors are of these
        raise DataError(file, f"labels of another type ({error})", expected="bytes for each position") from None


def _one_label_each(rows: Sequence[Any], num_bytes: int, file: Path) -> UInt8[np.ndarray, "rows bytes"]:
    """Returns the bytes of rows of one position; raises DataError for others."""
    for row in rows:
        if row is None or len(row) != 1:
            found = f"a row of {len(row or ()):,} positions: labels of the tokens of a text"
            raise DataError(file, found, expected="one position a row: one class a sample")
        if row[0] is None or len(row[0]) != num_bytes or None in row[0]:
            found = f"a label of {len(row[0] or ()):,} bytes"
            raise DataError(file, found, expected=f"{num_bytes:,}, by {CONFIG}")
    return np.array([row[0] for row in rows], np.uint8).reshape(len(rows), num_bytes)


def _number(file: Path) -> tuple[int, str]:
    found = re.search(r"(\d+)$", file.stem)
    return int(found[1]) if found else 0, file.name
