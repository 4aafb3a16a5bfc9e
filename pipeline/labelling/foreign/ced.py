"""CED's files: for each epoch and process an HDF5 file of labels, and a table of names.

`logits_ep<n>_<r>.h5` has `topk_values` (float16 [labels, k]), `topk_indexes` (int16 [labels, k])
and `seeds` (int32 [labels], of the augmentation); `logits_ep<n>_<r>.parquet` has `filename`,
`start` and `end` (seconds) of each label in the same order.

CED itself tags sounds with several classes each: its values are sigmoids, which are refused as soon
as a label of them sums up to more than 1. What is read are such files of a softmax.

References:
    Heinrich Dinkel et al., "CED: Consistent ensemble distillation for audio tagging", 2023,
    arXiv:2308.11957, section 2; github.com/RicherMans/CED, save_logits.py and dataset.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.core.errors import DataError
from pipeline.labelling.foreign.base import AT_ONCE, ForeignLabels, ViewLabels, need_some
from pipeline.labelling.foreign.hdf5 import open_arrays, some_rows
from pipeline.labelling.parquet_files import read_text

_FILE = re.compile(r".*ep(\d+)_(\d+)")
_ARRAYS = ("topk_values", "topk_indexes", "seeds")


class CED(ForeignLabels):
    """A folder of CED's files of labels."""

    views = "views or parts by CED's augmentation"

    def find(self) -> list[Path]:
        files = [file for file in self.path.glob("*.h5") if _FILE.fullmatch(file.stem)]
        return need_some(sorted(files, key=_order), self.path, "files logits_ep<n>_<r>.h5, with a .parquet of each")

    def read(self, file: Path) -> Iterator[ViewLabels]:
        names = read_text(file.with_suffix(".parquet"), "filename")
        with open_arrays(file, _ARRAYS) as (values, indexes, seeds):
            if not (values.ndim == 2 and values.shape == indexes.shape and seeds.shape == values.shape[:1]):
                shapes = ", ".join(str(list(each.shape)) for each in (values, indexes, seeds))
                raise DataError(file, f"arrays of shapes {shapes}", expected="[labels, k], [labels, k] and [labels]")
            if len(names) != len(values):
                raise DataError(file, f"{len(values):,} labels, and {len(names):,} names", expected="one for each")
            for start in range(0, len(names), AT_ONCE):
                stop = min(start + AT_ONCE, len(names))
                outputs = some_rows(indexes, start, stop, file).astype(np.int64)
                shares = some_rows(values, start, stop, file).astype(np.float32)
                yield ViewLabels(names[start:stop], outputs, shares)


def _order(file: Path) -> tuple[int, int]:
    found = _FILE.fullmatch(file.stem)
    assert found, "it was found by this pattern"
    return int(found[1]), int(found[2])
