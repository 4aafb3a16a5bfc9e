"""Text from a user, read by lines: a file of one endless line is refused soon, in little memory,
wherever such files are read.
"""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.plain_files import MOST_SIGNS, text_lines
from pipeline.labelling.derive.options import read_sample_ids
from pipeline.labelling.imported_logits import read_logits
from pipeline.models.classes import read_class_names
from pipeline.preparation.sources.table import Table

_HUGE = 1 << 30  # bytes, of which the disk holds none


def table(path: Path, begin: str) -> object:
    return Table(path=str(path)).count(path.parent)


def ids(path: Path, begin: str) -> object:
    np.save(path.parent / "logits.npy", np.zeros((1, 2), np.float32))
    return read_logits(path.parent / "logits.npy", str(path), path.parent / "samples.tsv", are_probabilities=False)


READERS: dict[str, tuple[str, str, Callable[[Path, str], object]]] = {
    "a table": ("x.csv", "", table),
    "a table's second row": ("x.csv", "path,label\na.png,cat\n", table),
    "a table's field": ("x.csv", "path,label\na.png,", table),
    "a quoted field": ("x.tsv", 'path\tlabel\na.png\t"', table),
    "a list of classes": ("x.txt", "cat\n", lambda path, _: read_class_names(str(path), "params.yaml: class_names")),
    "sample ids": ("x.txt", "00000000000000aa\n", lambda path, _: read_sample_ids(path)),
    "ids of logits": ("x.txt", "", ids),
}


@pytest.mark.parametrize("name", READERS)
def test_an_endless_line_is_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    file, begin, read = READERS[name]
    path = tmp_path / file
    path.write_text(begin)
    os.truncate(path, _HUGE)
    tracemalloc.start()
    with pytest.raises(PipelineError) as caught:
        read(path, begin)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{path}" in str(caught.value)
    assert f"has more than {MOST_SIGNS:,} characters" in str(caught.value)
    assert peak < 30 * MOST_SIGNS


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    file, begin, read = READERS[name]
    os.mkfifo(tmp_path / file)
    with pytest.raises(PipelineError):
        read(tmp_path / file, begin)


def test_lines_come_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\r\n\xe2\x80\xa8b\n\nc")
    assert list(text_lines(path)) == ["a", "\u2028b", "", "c"]
    assert list(text_lines(path, ends=True)) == ["a\r\n", "\u2028b\n", "\n", "c"]
    path.write_text("x" * MOST_SIGNS)
    assert list(text_lines(path)) == ["x" * MOST_SIGNS]
    path.write_text("y\n" + "x" * (MOST_SIGNS + 1))
    with pytest.raises(ValueError, match=r"line 2 has more than 1,048,576 characters"):
        list(text_lines(path))
