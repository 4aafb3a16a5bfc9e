"""The report of one class of several."""

from pipeline.report.columns import ECE, KL, NLL, Column, number, share
from pipeline.report.marks.base import Marks

ACCURACY = Column("accuracy", "accuracy", share, "of the last epoch, on the test split")
TOP5 = Column("top-5", "top5_accuracy", share, "the hard label is among the five most likely classes")
BEST = Column("best epoch", "accuracy_best", share)
GAIN = Column("gain (points)", "gain_points", number("+.2f"), "accuracy minus that of its hard-label twin")
CHANGE = Column(
    "change (points)", "change_points", number("+.2f"), "accuracy minus that of the network it was made from"
)
AGREEMENT = Column("agreement", "agreement", share, "test {things} on which it predicts what the teacher predicts")
CORRUPTED = Column("corrupted", "corrupted", share, "mean accuracy on corrupted test {things}")
SAME_TOP1 = Column(
    "same top-1", "top1_agreement", share, "test {things} on which it says what the network in torch says"
)

CATEGORICAL = Marks(
    signal="categorical",
    words="accuracy",
    axis="accuracy",
    name="Accuracy",
    curve="val_accuracy",
    main=(ACCURACY, GAIN, ECE, AGREEMENT, CORRUPTED),
    quality=(ACCURACY, TOP5, BEST, GAIN, NLL, ECE, AGREEMENT, KL),
    parity=(ACCURACY, CHANGE, SAME_TOP1),
    everything=(ACCURACY, TOP5, GAIN, CHANGE, ECE, AGREEMENT, CORRUPTED),
    by_class=lambda row: row.class_accuracy or [],
    class_words="accuracy",
    reliability=(
        "confidence",
        "accuracy",
        "on the diagonal, confidence is what it claims; below it, it claims too much",
        "{things}",
    ),
    confusion=("Confusions", " taken for ", "", "A row is a hard label, a column what the network predicts."),
    same_answer="same top-1",
)
