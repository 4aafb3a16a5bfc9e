"""The report of classes at positions."""

from dataclasses import replace

from pipeline.report.columns import ECE, KL, NLL, Column, Line, Table, number, share
from pipeline.report.marks.base import Marks
from pipeline.results.evaluation import Evaluation
from pipeline.results.networks import TEACHER

MIOU = Column("mIoU", "headline", share, "mean IoU of the last epoch, on the test split: the mean over the classes")
BEST = Column("best epoch", "headline_best", share)
GAIN = Column("gain (points)", "gain_points", number("+.2f"), "mIoU minus that of its hard-label twin")
CHANGE = Column("change (points)", "change_points", number("+.2f"), "mIoU minus that of the network it was made from")
POSITIONS = Column("accuracy", "accuracy", share, "known positions whose class is right")
OWN_ECE = replace(ECE, about="expected calibration error: how far confidence is from accuracy, over positions")
AGREEMENT = Column("agreement", "agreement", share, "positions of which it predicts what the teacher predicts")
CORRUPTED = Column("corrupted", "corrupted", share, "mean of the mIoU on corrupted test images")
SAME = Column("same classes", "top1_agreement", share, "positions of which it says what the network in torch says")


def by_class(evaluation: Evaluation) -> Table:
    """Returns each class's test images and positions, and the IoU of the teacher, of the best
    student and of its twin.
    """
    rows = evaluation.models
    best = max(rows, key=lambda name: (rows[name].role == "student", rows[name].score))
    shown = [name for name in rows if name in (TEACHER, best, rows[best].twin)]
    columns = [
        Column("class", "name"),
        Column("images", "count", number(","), "test images that it is in"),
        Column("positions", "share", share, "its share of the known positions"),
        *(Column(name, f"of {name}", share, "intersection over union") for name in shown),
        Column(f"found by {best}", "found", share, "its positions that are right"),
    ]
    return Table.of(columns, [_line(evaluation, shown, best, place) for place in range(len(evaluation.class_names))])


def _line(evaluation: Evaluation, shown: list[str], best: str, place: int) -> Line:
    rows, positions = evaluation.models, evaluation.class_positions or []
    return {
        "name": evaluation.class_names[place],
        "count": evaluation.class_counts[place],
        "share": positions[place] / max(1, sum(positions)) if positions else None,
        **{f"of {name}": (rows[name].class_iou or [None] * (place + 1))[place] for name in shown},
        "found": (rows[best].class_accuracy or [None] * (place + 1))[place],
    }


GRID = Marks(
    signal="grid",
    words="mean IoU",
    axis="mIoU",
    name="mIoU",
    curve="val_miou",
    verdict="mean IoU ",
    main=(MIOU, GAIN, POSITIONS, OWN_ECE, AGREEMENT, CORRUPTED),
    quality=(MIOU, BEST, GAIN, POSITIONS, NLL, OWN_ECE, AGREEMENT, KL),
    parity=(MIOU, CHANGE, SAME),
    everything=(MIOU, GAIN, CHANGE, POSITIONS, OWN_ECE, AGREEMENT, CORRUPTED),
    by_class=lambda row: row.class_iou or [],
    class_words="intersection over union",
    class_table=by_class,
    reliability=(
        "confidence",
        "accuracy",
        "on the diagonal, confidence is what it claims; below it, it claims too much",
        "positions",
    ),
    confusion=(
        "Confusions",
        " taken for ",
        "",
        "A row is the class of a position, a column what the network predicts there; the counts are of positions.",
    ),
    same_answer="same maps",
)
