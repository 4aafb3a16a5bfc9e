"""Names that a terminal or a spreadsheet would obey: written out wherever they are shown, and in
every table, from which they are read again as they were.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import make_samples, source, write_folder

from pipeline.core.closure import TOP
from pipeline.core.errors import SourceError, one_line_errors
from pipeline.core.progress import say, show
from pipeline.core.tables import lines_of, read_lines, read_table
from pipeline.core.text import escaped, shown, unescaped
from pipeline.doctor.findings import Findings
from pipeline.evaluation.plots import write_table
from pipeline.labelling.imported_logits import read_logits
from pipeline.preparation.lists import _write

NAMES = [
    "\x1b]0;owned\x07\x1b[31mred",
    "a\rb",
    "gnp.\u202eexe",
    "two\u2028lines",
    "\x9b1m",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "'=1",
    "'tis",
    'say "a"',
    "tab\there",
    "end\nof",
    r"back\slash",
    "-5",
    "plain name.png",
]
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def stopped(line: str) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        raise SourceError(line, f"found {line}", fix=line)


@pytest.mark.parametrize("name", NAMES[:5])
@pytest.mark.parametrize(
    "act", [say, show, stopped, lambda name: Findings().warning(name)], ids=["say", "show", "error", "doctor"]
)
def test_nothing_that_is_printed_is_obeyed_by_a_terminal(
    act: Callable[[str], object], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    act(name)
    printed = "".join(capsys.readouterr())
    assert not OBEYED.search(printed)
    assert len(printed) > len(name)


def test_what_is_harmless_is_printed_as_it_is() -> None:
    for name in ("Grün\tfür 日本 🇯🇵 e\u0301\n", r"a\b", "'=1"):
        assert shown(name) == name


@settings(deadline=None, database=None, max_examples=50)
@given(st.text())
def test_an_escaped_text_is_found_again(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert not OBEYED.search(escaped(text))


@settings(deadline=None, database=None, max_examples=50)
@given(st.lists(st.lists(st.text() | st.sampled_from(NAMES), min_size=2, max_size=3), min_size=1, max_size=3))
def test_a_table_is_read_as_it_was_written_a_row_in_each_line(rows: list[list[str]]) -> None:
    lines = list(lines_of(rows))
    assert list(read_lines(lines)) == rows
    assert "".join(lines).count("\n") == len(rows)


def test_a_spreadsheet_obeys_no_cell_and_loses_none() -> None:
    cells = next(csv.reader(lines_of([NAMES]), delimiter="\t"))
    assert len(cells) == len(NAMES)
    assert [cell for cell in cells if cell[0] in "=+-@\t\r"] == ["-5"]  # which is a number
    assert cells[NAMES.index('say "a"')] == 'say "a"'


def test_the_tables_of_a_run_keep_the_bytes_that_harmless_names_always_had() -> None:
    rows = [["sample_id", "key"], ["00ff", "train-images-idx3-ubyte:7"], ["T-shirt/top", "-0.25"], ["", "1e-05"]]
    assert "".join(lines_of(rows)) == "\n".join("\t".join(row) for row in rows) + "\n"


def test_plots_hold_names_that_the_report_finds_again(tmp_path: Path) -> None:
    write_table(tmp_path / "x.tsv", [{"actual": name, "count": -1} for name in NAMES])
    assert read_table(tmp_path / "x.tsv") == [{"actual": name, "count": "-1"} for name in NAMES]


def test_imported_logits_find_the_images_of_any_name(tmp_path: Path) -> None:
    rows = [(f"{number:016x}", "train", "ant", name) for number, name in enumerate(NAMES, 1)]
    _write(tmp_path / "samples.tsv", ("sample_id", "split", "class", "key"), rows)
    assert not OBEYED.search((tmp_path / "samples.tsv").read_text())
    np.savez(tmp_path / "logits.npz", logits=np.eye(len(NAMES), dtype=np.float32), keys=np.array(NAMES))
    found = read_logits(tmp_path / "logits.npz", None, tmp_path / "samples.tsv", are_probabilities=False)
    assert found.sample_ids.tolist() == list(range(1, len(NAMES) + 1))


def test_what_is_told_of_a_folder_is_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, make_samples())
    (tmp_path / "train/ant/\x1b[2J.txt").write_text("no image")
    (tmp_path / "train/bee/\x1b[31m.png").symlink_to(tmp_path / "nowhere")
    images = source("folder", tmp_path)
    images.class_names(tmp_path)
    for line in images.notes.lines():
        say(line)
    assert "x1b[2J" in capsys.readouterr().err
    with pytest.raises(SourceError) as caught:
        source("folder", tmp_path / "\x1b[0m").class_names(tmp_path)
    assert r"\x1b[0m" in str(caught.value)
    assert not OBEYED.search(str(caught.value))


def test_everything_is_printed_by_what_escapes_it() -> None:
    known = {
        "pipeline/core/errors.py",
        "pipeline/core/progress.py",
        "pipeline/profiling/probe.py",  # JSON, for another process
        "pipeline/export/predict.py",  # runs elsewhere, with class names that were checked
        "pipeline/export/predict_row.py",
        "pipeline/export/predict_sound.py",
        "pipeline/export/predict_text.py",
    }
    prints = re.compile(r"^ *print\(", re.MULTILINE)
    files = [path for room in ("pipeline", "stages") for path in (TOP / room).rglob("*.py")]
    assert {str(path.relative_to(TOP)) for path in files if prints.search(path.read_text())} == known
