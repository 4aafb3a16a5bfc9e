"""The marks of independent classes, from log-odds and the entries that are known."""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Bool

from pipeline.evaluation.marks.base import HeldOut, Marked, Marks
from pipeline.evaluation.marks.resampling import evidence_of, resampled
from pipeline.results.evaluation import Scores
from pipeline.results.independent_classes import IndependentScores
from pipeline.signals import HardLabels, Outputs
from pipeline.signals.binary import Binary
from pipeline.signals.binary_metrics import (
    average_precisions,
    best_threshold,
    binary_reliability,
    f1,
    mean_area_under_roc,
    set_metrics,
)

_LARGEST = 6e4  # in float16
Entries = Bool[torch.Tensor, "samples classes"]


@final
class BinaryMarks(Marks):
    """The marks of independent classes; the headline is mean average precision.

    The answers on each sample are `log_odds` and `predicted` of each class, which is 1 from the
    network's own threshold on, and `kl_to_teacher`: KL(teacher || network) in nats, summed over the
    classes, where there is a teacher.
    """

    signal = Binary()
    needs_validation = True  # the threshold is chosen on it

    def mark(
        self,
        outputs: Outputs,
        hard_labels: HardLabels,
        teacher_outputs: Outputs | None,
        validation: HeldOut | None,
    ) -> Marked:
        assert validation is not None, "a threshold is not chosen on what it is judged by"
        threshold = best_threshold(*validation)
        predicted, figures = torch.sigmoid(outputs.double()) >= threshold, set_metrics(outputs, hard_labels)
        # An entry for each class of each network: half of float32 is enough, also to rank samples.
        answers = {"predicted": predicted.to(torch.int8), "log_odds": outputs.clamp(-_LARGEST, _LARGEST).half()}
        agreement = None
        if teacher_outputs is not None:
            answers["kl_to_teacher"] = self.signal.kl_of_each(outputs, teacher_outputs).float()
            agreement = self.signal.agreement(outputs, teacher_outputs)
        kl = answers.get("kl_to_teacher")
        return Marked(
            Scores(
                accuracy=figures["accuracy"],
                nll=figures["nll"],
                ece=figures["ece"],
                agreement=agreement,
                kl_to_teacher=None if kl is None else kl.double().mean().item(),
                headline=figures["map"],
                independent=independent_scores(outputs, hard_labels, threshold),
            ),
            answers,
            evidence_of(figures["map"], resampled(outputs, hard_labels)),
            binary_reliability(outputs, hard_labels),
            list(taken_for(predicted, hard_labels)),
        )

    def class_counts(self, hard_labels: HardLabels, num_classes: int) -> list[int]:
        counts: list[int] = (hard_labels == 1).sum(dim=0).tolist()
        return counts

    def known_counts(self, hard_labels: HardLabels) -> list[int]:
        counts: list[int] = (hard_labels >= 0).sum(dim=0).tolist()
        return counts


def independent_scores(outputs: Outputs, hard_labels: HardLabels, threshold: float) -> IndependentScores:
    """Returns the figures of entries that are a yes from a probability on."""
    predicted = torch.sigmoid(outputs.double()) >= threshold
    micro, macro = f1(outputs, hard_labels, threshold)
    return IndependentScores(
        threshold=threshold,
        f1_micro=micro,
        f1_macro=macro,
        auc=mean_area_under_roc(outputs, hard_labels),
        class_precision=average_precisions(outputs, hard_labels),
        class_missed=(~predicted & (hard_labels == 1)).sum(dim=0).tolist(),
        class_invented=(predicted & (hard_labels == 0)).sum(dim=0).tolist(),
    )


def taken_for(predicted: Entries, hard_labels: HardLabels) -> Iterator[tuple[int, int, int]]:
    """Yields the number of samples in which one class was missed and another one invented: (missed,
    invented, count), where there are any; with itself, a class has the samples in which it was
    found.
    """
    missed, invented = (~predicted & (hard_labels == 1)).float(), (predicted & (hard_labels == 0)).float()
    counts = missed.T @ invented + (predicted & (hard_labels == 1)).float().sum(dim=0).diag()
    for actual, found in counts.nonzero().tolist():
        yield actual, found, int(counts[actual, found])
