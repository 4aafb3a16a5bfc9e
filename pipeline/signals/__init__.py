"""The signal that a teacher gives for a sample: one class of several, of the sample or of each
position in it, independent classes, or an embedding.

What a data set's hard labels are says which one it is (`signal` in its manifest), and its stores,
networks and reports follow. A new signal is a file here with a class of `base.py`, and a name in
the table below. It goes on in this order: its hard labels (preparation/, data/splits.py; those with
positions turn with the image: views/operations/), encodings that hold it (`signals` of a class in
labels/encodings/), losses that learn from it (a file in student/losses/), its figures (a file in
evaluation/marks/) and how the report shows them (one in report/marks/).

base.py            the abstract signals: all that rooms ask of one
binary.py          independent classes: sigmoids
binary_metrics.py  average precision, F1, calibration of independent classes
categorical.py     one class of several: a softmax
chance.py          the checks that a classifier is better than guessing
grid.py            one class of several at each position
grid_metrics.py    intersection over union, calibration of positions
losses.py          a softmax's loss against hard labels, and its distance to the teacher's
metrics.py         figures of a softmax: accuracy, NLL, calibration, agreement with the teacher
pieces.py          values per sample, computed for some samples at a time
thinning.py        some positions of maps in place of all, where all would take too much memory
vector.py          embeddings, which a data set has no hard labels for
"""

from pipeline.data.signal_kinds import SignalKind
from pipeline.data.splits import HardLabels
from pipeline.signals.base import Outputs, Signal, StoredKind, StoredSignal
from pipeline.signals.binary import Binary
from pipeline.signals.categorical import CATEGORICAL
from pipeline.signals.grid import Grid
from pipeline.signals.vector import VECTOR

SIGNALS: dict[SignalKind, Signal] = {each.kind: each for each in (CATEGORICAL, Binary(), Grid())}
#: What stores hold: those, and embeddings.
STORED: dict[StoredKind, StoredSignal] = {**dict(SIGNALS.items()), "vector": VECTOR}

__all__ = [
    "SIGNALS",
    "STORED",
    "HardLabels",
    "Outputs",
    "Signal",
    "SignalKind",
    "StoredKind",
    "StoredSignal",
    "figure_words",
    "signal_named",
]


def figure_words(headline: str) -> str:
    """Returns the name of a headline figure as messages have it; of another figure its own."""
    return next((each.headline_words for each in SIGNALS.values() if each.headline == headline), headline)


def signal_named(kind: SignalKind) -> Signal:
    """Returns the signal of a kind."""
    return SIGNALS[kind]
