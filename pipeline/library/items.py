"""The items of a data set, and a batch of them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import default_collate

from pipeline.labels.targets import SparseTargets
from pipeline.student.batches import join_targets


class Item(NamedTuple):
    """A view with its labels, or a batch of them, which has an axis more.

    Attributes:
        view: uint8 [channels, height, width], or what the caller's `normalise` made of it.
        targets: The teacher's log-probabilities [classes], or those of a few
            classes, with an axis of one label.
        hard_label: The class, as int64; -1: it is not known.
        sample_id: The 64 bits of the sample id, as int64.
    """

    view: Tensor
    targets: Tensor | SparseTargets
    hard_label: Tensor
    sample_id: Tensor

    @property
    def labels(self) -> tuple[Tensor | SparseTargets, Tensor]:
        """The labels as a loss takes them: `loss(student(batch.view), *batch.labels)`."""
        return self.targets, self.hard_label


class MixedItem(NamedTuple):
    """A view that is mixed of two samples, with its labels; the first four are as in `Item`.

    Attributes:
        partner_label: The class of the second sample, as int64; -1: it is not known.
        own_share: The first sample's share of the view, 0.5 to 1.
    """

    view: Tensor
    targets: Tensor | SparseTargets
    hard_label: Tensor
    sample_id: Tensor
    partner_label: Tensor
    own_share: Tensor

    @property
    def labels(self) -> tuple[Tensor | SparseTargets, Tensor, Tensor, Tensor]:
        """The labels as a loss takes them, those of the second sample last."""
        return self.targets, self.hard_label, self.partner_label, self.own_share


class Items(Sequence[Any]):
    """A sequence of items that were made together as the batch `whole`."""

    def __init__(self, whole: Item | MixedItem) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole.hard_label)

    def __getitem__(self, place: Any) -> Any:
        return list(self)[place]

    def __iter__(self) -> Iterator[Any]:
        columns = [_apart(values) for values in self.whole]
        return (type(self.whole)(*values) for values in zip(*columns, strict=True))


def collate(items: Sequence[Item | MixedItem]) -> Any:
    """Returns items as one batch: a `collate_fn` for DataLoader.

    It does what DataLoader does by itself, without a copy of what was made together. Sparse targets
    need it: nothing else knows them.
    """
    if isinstance(items, Items):
        return items.whole
    columns = list(zip(*items, strict=True))
    return type(items[0])(*(_together(values) for values in columns))


def _apart(values: Tensor | SparseTargets) -> Sequence[Any]:
    if isinstance(values, Tensor):
        return values.unbind()
    return [values[slice(place, place + 1)] for place in range(len(values.classes))]


def _together(values: Sequence[Any]) -> Any:
    return join_targets(values) if isinstance(values[0], SparseTargets) else default_collate(list(values))
