"""The report of one class of several, where every class counts the same."""

from dataclasses import replace

from pipeline.report.columns import ECE, KL, NLL, Column, number, share
from pipeline.report.marks.categorical import ACCURACY, AGREEMENT, CATEGORICAL, CHANGE, TOP5

BALANCED_ACCURACY = Column(
    "balanced accuracy",
    "headline",
    share,
    "of the last epoch, on the test split: the mean over the classes of the share of each that is right",
)
MACRO_F1 = Column("macro F1", "macro_f1", share, "mean over the classes of F1")
BEST = Column("best epoch", "headline_best", share)
GAIN = Column("gain (points)", "gain_points", number("+.2f"), "balanced accuracy minus that of its hard-label twin")
CORRUPTED = Column("corrupted", "corrupted", share, "mean balanced accuracy on corrupted test {things}")
OF_ALL = replace(ACCURACY, about="of the last epoch, on the test split: large classes weigh most")

BALANCED = replace(
    CATEGORICAL,
    words="balanced accuracy",
    axis="balanced accuracy",
    name="Balanced accuracy",
    verdict="balanced accuracy ",
    in_training="accuracy",
    main=(BALANCED_ACCURACY, GAIN, MACRO_F1, OF_ALL, ECE, AGREEMENT, CORRUPTED),
    quality=(BALANCED_ACCURACY, BEST, GAIN, MACRO_F1, OF_ALL, TOP5, NLL, ECE, AGREEMENT, KL),
    everything=(BALANCED_ACCURACY, GAIN, MACRO_F1, OF_ALL, TOP5, CHANGE, ECE, AGREEMENT, CORRUPTED),
)
