"""The report of independent classes."""

from collections.abc import Mapping
from dataclasses import replace

from pipeline.report.columns import ECE, KL, NLL, Column, Line, Table, number, share
from pipeline.report.marks.base import Marks
from pipeline.results.evaluation import Evaluation
from pipeline.results.independent_classes import IndependentScores
from pipeline.results.networks import TEACHER

_SHARED = "one of the network's own, chosen on the validation split"
MAP = Column("mAP", "headline", share, "mean average precision of the last epoch, on the test split")
BEST = Column("best epoch", "headline_best", share)
GAIN = Column("gain (points)", "gain_points", number("+.2f"), "mAP minus that of its hard-label twin")
CHANGE = Column("change (points)", "change_points", number("+.2f"), "mAP minus that of the network it was made from")
AUC = Column("AUC", "auc", share, "mean over the classes of the area under the ROC curve, on the test split")
LOG_LOSS = replace(NLL, about="negative log-likelihood of a known entry (log loss), in nats")
F1_MICRO = Column("F1 micro", "f1_micro", share, f"of all entries together, from the threshold on: {_SHARED}")
F1_MACRO = Column("F1 macro", "f1_macro", share, f"mean over the classes, from the threshold on: {_SHARED}")
THRESHOLD = Column("threshold", "threshold", number(".2f"), "the probability from which on an entry is a yes")
ENTRIES = Column("accuracy", "accuracy", share, "known entries that are on the right side of one half")
OWN_ECE = replace(ECE, about="expected calibration error: how far the probability of a yes is from how often it is one")
AGREEMENT = Column("agreement", "agreement", share, "entries on the side of one half where the teacher has them")
CORRUPTED = Column("corrupted", "corrupted", share, "mean of the mAP on corrupted test {things}")
SAME_ENTRIES = Column(
    "same entries", "top1_agreement", share, "entries on the side of one half where the network in torch has them"
)


def by_class(evaluation: Evaluation) -> Table:
    """Returns each class's test samples, the average precision of the teacher, of the best student
    and of its twin, and this student's mistakes.
    """
    rows = evaluation.models
    best = max(rows, key=lambda name: (rows[name].role == "student", rows[name].score))
    shown = [name for name in rows if name in (TEACHER, best, rows[best].twin)]
    columns = [
        Column("class", "name"),
        Column(evaluation.worded("{things}"), "count", number(","), "test {things} that are of it"),
        Column("known", "known", number(","), "test {things} of which it is known whether they are"),
        *(Column(name, f"of {name}", share, "average precision") for name in shown),
        Column(f"missed by {best}", "missed", number(","), "{things} of the class that are a no"),
        Column(f"invented by {best}", "invented", number(","), "{things} that are not of the class and are a yes"),
    ]
    own = {name: scores for name in shown if (scores := rows[name].independent) is not None}
    return Table.of(columns, [_line(evaluation, own, best, place) for place in range(len(evaluation.class_names))])


def _line(evaluation: Evaluation, own: Mapping[str, IndependentScores], best: str, place: int) -> Line:
    return {
        "name": evaluation.class_names[place],
        "count": evaluation.class_counts[place],
        "known": evaluation.class_known[place] if evaluation.class_known else None,
        **{f"of {name}": each.class_precision[place] for name, each in own.items()},
        "missed": own[best].class_missed[place],
        "invented": own[best].class_invented[place],
    }


BINARY = Marks(
    signal="binary",
    words="mean average precision",
    axis="mAP",
    name="mAP",
    curve="val_map",
    verdict="mean average precision ",
    main=(MAP, GAIN, AUC, F1_MICRO, OWN_ECE, AGREEMENT, CORRUPTED),
    quality=(MAP, BEST, GAIN, F1_MICRO, F1_MACRO, THRESHOLD, ENTRIES, AUC, LOG_LOSS, OWN_ECE, AGREEMENT, KL),
    parity=(MAP, CHANGE, SAME_ENTRIES),
    everything=(MAP, GAIN, CHANGE, F1_MICRO, F1_MACRO, OWN_ECE, AGREEMENT, CORRUPTED),
    by_class=lambda row: row.independent.class_precision if row.independent else [],
    class_words="average precision",
    class_table=by_class,
    reliability=(
        "probability of a yes",
        "share that is a yes",
        "on the diagonal, a probability is what it claims; below it, it claims too much",
        "entries",
    ),
    confusion=(
        "Missed and invented",
        " missed where ",
        " was invented",
        "A row is a class that was missed, a column one that was invented in the same {thing}; on the diagonal stand the "
        "{things} in which a class was found. Every network has its own threshold, chosen on the validation split.",
    ),
    same_answer="same answer",
)
