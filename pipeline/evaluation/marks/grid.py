"""The marks of classes at positions, from logits of every position and the positions known."""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Int64

from pipeline.evaluation.marks.base import HeldOut, Marked, Marks
from pipeline.evaluation.marks.jackknife import Counts, contributions, mean_ratio
from pipeline.results.evaluation import Scores
from pipeline.signals import HardLabels, Outputs
from pipeline.signals.grid import Grid
from pipeline.signals.grid_metrics import confusion_of, confusion_of_each, ious, mean_iou, sureness
from pipeline.signals.pieces import by_pieces

_FEW = 256  # classes, whose numbers fit in a byte
Confusion = Int64[torch.Tensor, "classes classes"]


@final
class GridMarks(Marks):
    """The marks of a class at each position; the headline is the mean IoU.

    The answers on each sample are `predicted`, the map of the likeliest classes, `iou`, the mean
    over the classes that are in the sample or were predicted in it, and `kl_to_teacher`:
    KL(teacher || network) in nats, the mean over the positions, where there is a teacher.

    Everything is computed for some samples at a time: besides the outputs, which are given, a few
    megabytes and the answers are held.
    """

    signal = Grid()
    has_positions = True

    def mark(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        teacher_outputs: Outputs | None,
        validation: HeldOut | None,
    ) -> Marked:
        found, union = counts_of_each(outputs, hard_labels)
        confusion, sure = confusion_of(outputs, hard_labels), sureness(outputs, hard_labels)
        answers = {"predicted": predicted_maps(outputs), "iou": mean_ratio(found, union).float()}
        agreement = None
        if teacher_outputs is not None:
            answers["kl_to_teacher"] = self.signal.kl_of_each(outputs, teacher_outputs).float()
            agreement = self.signal.agreement(outputs, teacher_outputs)
        kl = answers.get("kl_to_teacher")
        scores = Scores(
            accuracy=(confusion.diagonal().sum() / confusion.sum().clamp(min=1)).item(),
            nll=sure.nll,
            ece=sure.ece,
            class_accuracy=_ratios(confusion.diagonal(), confusion.sum(dim=1)),
            agreement=agreement,
            kl_to_teacher=None if kl is None else kl.double().mean().item(),
            headline=mean_iou(confusion),
            class_iou=[None if value != value else value for value in ious(confusion).tolist()],
        )
        return Marked(scores, answers, contributions(found, union), sure.bins, list(pairs(confusion)))

    def class_counts(self, hard_labels: HardLabels, num_classes: int) -> list[int]:
        counts: list[int] = (_positions_of_each(hard_labels, num_classes) > 0).sum(dim=0).tolist()
        return counts

    def position_counts(self, hard_labels: HardLabels, num_classes: int) -> list[int]:
        counts: list[int] = _positions_of_each(hard_labels, num_classes).sum(dim=0).tolist()
        return counts


def predicted_maps(outputs: Outputs) -> torch.Tensor:
    """Returns the likeliest class of each position, as small integers."""
    small = torch.uint8 if outputs.shape[1] <= _FEW else torch.int16
    return by_pieces(lambda some: some.argmax(dim=1).to(small), outputs)


def counts_of_each(outputs: Outputs, hard_labels: HardLabels) -> tuple[Counts, Counts]:
    """Returns, by sample and class, the positions that were found, and those of the union."""

    def count(some: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        confusion = confusion_of_each(some, maps)
        found = confusion.diagonal(dim1=1, dim2=2)
        return torch.stack([found, confusion.sum(dim=1) + confusion.sum(dim=2) - found], dim=1)

    found, union = by_pieces(count, outputs, hard_labels).unbind(dim=1)
    return found, union


def pairs(confusion: Confusion) -> Iterator[tuple[int, int, int]]:
    """Yields the number of positions of each class that each was predicted at, where there are
    any.
    """
    for actual, predicted in confusion.nonzero().tolist():
        yield actual, predicted, int(confusion[actual, predicted])


def _positions_of_each(hard_labels: HardLabels, num_classes: int) -> Counts:
    """Returns the number of positions of each class in each sample."""
    return torch.stack([torch.bincount(each[each >= 0].long(), minlength=num_classes) for each in hard_labels])


def _ratios(found: Int64[torch.Tensor, " classes"], of: Int64[torch.Tensor, " classes"]) -> list[float | None]:
    return [n / total if total else None for n, total in zip(found.tolist(), of.tolist(), strict=True)]
