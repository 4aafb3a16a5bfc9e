"""The contents of samples.json and explain.json."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.data.splits import known_classes, unknown_classes
from pipeline.explanation.checked_labels import CheckedLabels
from pipeline.explanation.predictions import Predictions
from pipeline.explanation.samples import Samples, StoredViews, rank_classes
from pipeline.results.explanation import Explanation, Look, MapLook, SampleRow
from pipeline.results.networks import TEACHER


@dataclass(frozen=True)
class Findings:
    """The findings about the chosen samples.

    Attributes:
        looks: What each sample looks like.
        maps: For each attributed sample, its maps by network.
        distilled: The students whose distance to the teacher is the disagreement.
    """

    samples: Samples
    looks: list[Look]
    views: StoredViews
    predictions: Predictions
    maps: list[dict[str, MapLook]]
    distilled: list[str]

    def rows(self, suspicions: Sequence[float]) -> list[SampleRow]:
        """Returns a row for each sample; the first ones are the suspects, whose suspicions these
        are.
        """
        signal = self.predictions.signal
        probs = {
            name: signal.probs(signal.values(each.double(), 1.0)) for name, each in self.predictions.logits.items()
        }
        says = {name: rank_classes(each) for name, each in probs.items()}
        disagreement, agreements = self._disagreement(), self._map_agreements()
        attributed = {int(place): number for number, place in enumerate(self.predictions.rows)}
        found = []
        for number, one in enumerate(self.samples.chosen):
            map_number = attributed.get(number)
            found.append(
                SampleRow(
                    id=f"{int(self.samples.sample_ids[number]):016x}",
                    split=one.split,
                    index=one.index,
                    hard_label=known_classes(self.samples.hard_labels[number]),
                    unknown=unknown_classes(self.samples.hard_labels[number]),
                    kinds=one.kinds,
                    image=self.looks[number],
                    suspicion=round(suspicions[number], 6) if number < len(suspicions) else None,
                    views=self.views.looks[number] if number < len(self.views.looks) else None,
                    view_labels=self.views.labels[number] if number < len(self.views.labels) else None,
                    says={name: ranked[number] for name, ranked in says.items()},
                    disagreement=None if disagreement is None else disagreement[number],
                    maps=None if map_number is None else self.maps[map_number],
                    map_agreement=None if map_number is None else agreements[map_number],
                )
            )
        return found

    def _map_agreements(self) -> list[dict[str, float]]:
        """Returns the agreement of each attributed sample's maps with the teacher's, by student."""
        agreements = self.predictions.agreements().items()
        return [{name: round(float(a[n]), 4) for name, a in agreements} for n in range(len(self.maps))]

    def _disagreement(self) -> list[float] | None:
        """Returns the mean KL(teacher || student) of each sample in nats; None where there is no
        teacher.
        """
        logits = self.predictions.logits
        if TEACHER not in logits:
            return None
        kl = [self.predictions.signal.kl_of_each(logits[name], logits[TEACHER]) for name in self.distilled]
        return [round(nats, 6) for nats in torch.stack(kl).mean(dim=0).clamp(min=0).tolist()]


def explanation(checked: CheckedLabels, predictions: Predictions) -> Explanation:
    """Returns the content of explain.json: suspects, and how far maps agree, also by chance."""
    num_maps = len(predictions.rows)
    return Explanation(
        len(checked.suspects),
        checked.num_checked,
        checked.why_none,
        checked.pairs(),
        predictions.method if num_maps else None,
        num_maps,
        predictions.mean_agreements(),
        predictions.mean_agreements(shift=1),
        "entries of hard labels" if checked.of_entries else None,
    )
