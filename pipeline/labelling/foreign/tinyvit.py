"""TinyViT's sparse logits: for each epoch a folder, in it for each process a file of keys and one
of records.

`logits_top<k>_epoch<n>/rank<r>-keys.txt` has a key in a line, `rank<r>-values.bin` a record for
each in the same order, 4 + 4 k bytes: the seed of the augmentation (int32), k classes (int16), and
their k probabilities (float16).

References:
    Kan Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", 2022,
    arXiv:2207.10666, section 3.2; github.com/microsoft/Cream, TinyViT/save_logits.py and
    TinyViT/data/augmentation/manager.py and dataset_wrapper.py.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.plain_files import odd_file, text_lines
from pipeline.labelling.foreign.base import AT_ONCE, ForeignLabels, ViewLabels, need_some

_FOLDER = re.compile(r"logits_top(\d{1,5})_epoch(\d+)")
_LONGEST_KEY = 4096  # bytes
_EXPECTED = "folders logits_top<k>_epoch<n> with rank<r>-keys.txt and rank<r>-values.bin"


class TinyViT(ForeignLabels):
    """The folder that TinyViT calls TEACHER_LOGITS_PATH, or one epoch's folder in it.

    `ids` is a file with the name of each image in a line, for keys that are numbers: TinyViT names
    an image by its place in the data set where that has no keys of its own.
    """

    views = "views by TinyViT's augmentation (which must not have been made with mixup or cutmix)"
    takes_ids = True

    def find(self) -> list[Path]:
        own = [self.path] if _FOLDER.fullmatch(self.path.name) else []
        folders = own or [each for each in self.path.glob("logits_top*_epoch*") if _FOLDER.fullmatch(each.name)]
        if len(kept := {_kept(folder) for folder in folders}) > 1:
            found = f"labels of {' and of '.join(map(str, sorted(kept)))} classes"
            raise DataError(self.path, found, expected="one number", fix="keep the folders of the others elsewhere")
        files = [file for folder in sorted(folders, key=_epoch) for file in sorted(folder.glob("*-values.bin"))]
        return need_some(files, self.path, _EXPECTED)

    def read(self, file: Path) -> Iterator[ViewLabels]:
        kept = _kept(file.parent)
        record = np.dtype([("seed", "<i4"), ("outputs", "<i2", (kept,)), ("probabilities", "<f2", (kept,))])
        size = file.stat().st_size
        if odd := odd_file(file):
            raise DataError(file, odd, expected="a file of records")
        if size % record.itemsize:
            raise DataError(file, f"{size:,} bytes", expected=f"whole records of {record.itemsize} bytes")
        count = size // record.itemsize
        keys = self._keys(file.with_name(file.name.replace("-values.bin", "-keys.txt")), count)
        records = np.memmap(file, record, "r") if count else np.empty(0, record)
        for start in range(0, count, AT_ONCE):
            some = records[start : start + AT_ONCE]
            names = list(islice(keys, len(some)))
            yield ViewLabels(names, some["outputs"].astype(np.int64), some["probabilities"].astype(np.float32))

    def _keys(self, file: Path, count: int) -> Iterator[str]:
        """Returns the names of a file of keys; raises DataError where they are not one a record."""
        keys = _lines(file, count * _LONGEST_KEY, "a key in a line")
        if len(keys) != count:
            raise DataError(file, f"{len(keys):,} keys for {count:,} records", expected="one for each")
        return map(self._name, keys)

    def _name(self, key: str) -> str:
        """Returns the name of the image with a key."""
        if not key.strip().isdecimal():
            return key
        place, names = int(key), self._names
        if place >= len(names):
            raise DataError(self.ids, f"{len(names):,} names, and key {place}", expected="a name for every key")
        return names[place]

    @cached_property
    def _names(self) -> list[str]:
        if self.ids is None:
            expected = "--ids FILE: the name of each image of TinyViT's data set in a line, in its order"
            raise DataError(self.path, "its keys are places, not names", expected=expected)
        return _lines(Path(self.ids), None, "a name in a line")


def _lines(file: Path, most_bytes: int | None, expected: str) -> list[str]:
    """Returns the lines of a file; raises DataError where it is none, or too large."""
    if odd := odd_file(file, most_bytes):
        raise DataError(file, odd, expected=expected)
    try:
        return list(text_lines(file))
    except (OSError, ValueError) as error:
        raise DataError(file, f"can't be read ({error})", expected=expected) from None


def _kept(folder: Path) -> int:
    found = _FOLDER.fullmatch(folder.name)
    assert found, "it was found by this pattern"
    return int(found[1])


def _epoch(folder: Path) -> int:
    found = _FOLDER.fullmatch(folder.name)
    assert found, "it was found by this pattern"
    return int(found[2])
