"""Marks: the figures of a network on the test split, by the signal of the data.

A new signal is a file here, and a class in the table; its figures that no other signal has are a
dataclass in results/, and report/marks/ shows them.

base.py         the interface, and all that is found out about a network
binary.py       independent classes
categorical.py  one class of several
grid.py         a class at each position
jackknife.py    mean IoU without each test sample
resampling.py   mean average precision on test samples that are drawn again
"""

from pipeline.evaluation.marks.base import Marked, Marks
from pipeline.evaluation.marks.binary import BinaryMarks
from pipeline.evaluation.marks.categorical import CategoricalMarks
from pipeline.evaluation.marks.grid import GridMarks
from pipeline.signals import SignalKind

MARKS: dict[SignalKind, Marks] = {each.signal.kind: each for each in (CategoricalMarks(), BinaryMarks(), GridMarks())}

__all__ = ["MARKS", "Marked", "Marks"]
