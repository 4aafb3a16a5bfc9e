"""Marks: how the figures of a network are shown, by the signal of the data.

A new signal is a file here, and a line in the table; evaluation/marks/ computes its figures.

balanced.py     one class of several, where every class counts the same
base.py         what differs between signals: words, columns, figures by class
binary.py       independent classes
categorical.py  one class of several
grid.py         a class at each position
"""

from pipeline.report.marks.balanced import BALANCED
from pipeline.report.marks.base import Marks
from pipeline.report.marks.binary import BINARY
from pipeline.report.marks.categorical import CATEGORICAL
from pipeline.report.marks.grid import GRID

MARKS: dict[str, Marks] = {each.signal: each for each in (CATEGORICAL, BINARY, GRID)}

__all__ = ["BALANCED", "MARKS", "Marks"]
