"""Marks: the figures of a network on the test split, by the signal of the data.

A new signal is a file here, and a class in the table; its figures that no other signal has are a
dataclass in results/, and report/marks/ shows them.

balanced.py     one class of several, where every class counts the same
base.py         the interface, and all that is found out about a network
binary.py       independent classes
categorical.py  one class of several
grid.py         a class at each position
jackknife.py    mean IoU without each test sample
resampling.py   mean average precision on test samples that are drawn again
"""

from pipeline.evaluation.marks.balanced import BalancedMarks
from pipeline.evaluation.marks.base import Marked, Marks
from pipeline.evaluation.marks.binary import BinaryMarks
from pipeline.evaluation.marks.categorical import CategoricalMarks
from pipeline.evaluation.marks.grid import GridMarks
from pipeline.results.evaluation import Headline
from pipeline.signals import SignalKind
from pipeline.signals.categorical import CATEGORICAL

MARKS: dict[SignalKind, Marks] = {each.signal.kind: each for each in (CategoricalMarks(), BinaryMarks(), GridMarks())}

__all__ = ["MARKS", "Marked", "Marks", "marks_of"]


def marks_of(signal: SignalKind, headline: Headline | None) -> Marks:
    """Returns the marks of a signal; with a `balanced` headline, those whose headline is a mean
    over the classes, which those of independent classes and of positions are in any case.
    """
    return BalancedMarks() if headline == "balanced" and signal == CATEGORICAL.kind else MARKS[signal]
