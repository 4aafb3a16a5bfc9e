"""Whether imported embeddings can be those of the samples that they are said to be of."""

import torch
from jaxtyping import Float, Int64
from torch.nn.functional import normalize

from pipeline.core.progress import say
from pipeline.core.seeding import permutation
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.labelling.imported_teachers import ImportedEmbeddings

_MOST, _LEAST = 2_000, 50  # samples that are compared with each other
_DEVIATIONS = 3  # of chance


def tell_neighbours(embeddings: ImportedEmbeddings, train: SplitOnDisk) -> None:
    """Prints how often the nearest of some samples is of the same class: no better than chance,
    where rows are in another order than their ids.

    Nothing is printed of data whose samples have no single class, or hardly any.
    """
    if train.hard_labels.ndim > 1:
        return
    some = permutation(0, len(train), 0)[:_MOST]
    labels = train.hard_labels[some]
    some, labels = some[(labels >= 0).numpy()], labels[labels >= 0]
    if len(labels) >= _LEAST:
        say(f"import_labels: {neighbours_line(embeddings.take(embeddings.rows_of(train.sample_ids[some])), labels)}")


def neighbours_line(vectors: Float[torch.Tensor, "some dimensions"], labels: Int64[torch.Tensor, " some"]) -> str:
    """Returns the line about the nearest of some labelled samples, by cosine."""
    unit = normalize(vectors, dim=1)
    alike = (unit @ unit.T).fill_diagonal_(-2)
    same = float((labels[alike.argmax(dim=1)] == labels).double().mean())
    chance = float((torch.bincount(labels) / len(labels)).square().sum())
    line = f"the nearest of {len(labels):,} embeddings is of the same class for {same:.1%}, by chance {chance:.1%}"
    if same > chance + _DEVIATIONS * (chance * (1 - chance) / len(labels)) ** 0.5:
        return line
    return f"{line}: are the rows in another order than their ids?"
