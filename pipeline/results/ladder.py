"""The content of reports/tune_labels/ladder.json: encodings tried on the same labels."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LadderRow:
    """An encoding that was tried.

    Attributes:
        label_bytes: Bytes on disk per label with its share of its sample's anchor and of the
            tables; without them `field_bytes`.
        table_bytes: Bytes of the tables, which a store has once.
        kl_nats: KL(teacher || label) in nats by temperature: `mean`, `p999` and `max`.
        worst_kl_nats: The largest mean; None where a declared temperature can't be served.
        on_front: Whether no other one is both as small and as close to the teacher.
    """

    encoding: dict[str, Any]
    label_bytes: float
    field_bytes: float
    table_bytes: int
    kl_nats: dict[str, dict[str, float]]
    worst_kl_nats: float | None
    top1_agreement: float
    on_front: bool


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The measurements of all encodings; rows by encoding, the smallest first.

    Attributes:
        labels_of: The teacher or the store that the labels come from.
        num_measured: Labels that were measured; tables were learned from `num_pilot` others.
        num_labels: Labels of the whole store.
        own_kl_nats: The mean KL of the labels themselves to the teacher.
        budget: The limit by its name: `bytes`, `kl_nats` or `kl_p999_nats`.
        chosen: The row that fits it.
        answer: The words for what `top1_agreement` is the share of, as the labels' signal has them.
    """

    labels_of: str
    num_measured: int
    num_pilot: int
    num_labels: int
    num_views: int
    num_classes: int
    temperature: float
    temperatures: list[float]
    own_kl_nats: float
    rows: dict[str, LadderRow]
    budget: dict[str, float] | None
    chosen: str | None
    answer: str = "top-1 class"
