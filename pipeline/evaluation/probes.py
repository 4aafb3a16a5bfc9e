"""Probes of an embedding, for the classes in it: neighbours, a linear probe, retrieval."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.core.errors import PipelineError
from pipeline.results.probe import Probe

NEIGHBOURS, RETRIEVED = 20, 10
_STEPS = 500

Trained = tuple[Float[np.ndarray, "train dimensions"], Int64[np.ndarray, " train"]]
Tested = tuple[Float[np.ndarray, "test dimensions"], Int64[np.ndarray, " test"]]


def probe(train: Trained, test: Tested) -> Probe:
    """Returns the figures of embeddings of training samples and test samples, all labelled."""
    return Probe(
        num_dimensions=train[0].shape[1],
        num_train=len(train[0]),
        num_test=len(test[0]),
        knn_accuracy=knn_accuracy(train, test),
        linear_accuracy=linear_accuracy(train, test),
        recall_at_1=recall(test, 1),
        recall_at_10=recall(test, RETRIEVED),
    )


def knn_accuracy(train: Trained, test: Tested) -> float:
    """Returns the accuracy of the most frequent class among the 20 nearest training samples by
    cosine, each weighted by how near it is.
    """
    with _sklearn() as (neighbors, _, _):
        count = min(NEIGHBOURS, len(train[0]))
        model = neighbors.KNeighborsClassifier(count, weights="distance", metric="cosine", algorithm="brute")
        return float(model.fit(*train).score(*test))


def linear_accuracy(train: Trained, test: Tested) -> float:
    """Returns the accuracy of a logistic regression on standardised embeddings."""
    with _sklearn() as (_, linear_model, preprocessing):
        scale = preprocessing.StandardScaler().fit(train[0])
        model = linear_model.LogisticRegression(max_iter=_STEPS)
        return float(model.fit(scale.transform(train[0]), train[1]).score(scale.transform(test[0]), test[1]))


def recall(test: Tested, count: int) -> float:
    """Returns the share of samples that have one of their own class among the `count` others
    nearest by cosine.
    """
    vectors, classes = test
    unit = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1)
    found = []
    for rows in torch.arange(len(unit)).split(1024):
        alike = unit[rows] @ unit.T
        alike[torch.arange(len(rows)), rows] = -2
        nearest = alike.topk(min(count, len(unit) - 1), dim=1).indices.numpy()
        found.append((classes[nearest] == classes[rows.numpy()][:, None]).any(axis=1))
    return float(np.concatenate(found).mean())


@contextmanager
def _sklearn() -> Iterator[tuple[ModuleType, ModuleType, ModuleType]]:
    try:
        from sklearn import linear_model, neighbors, preprocessing
    except ImportError as error:
        fix = "install the extra `pipeline` (`pip install -c constraints.txt .[pipeline]`)"
        raise PipelineError("probe", f"scikit-learn can't be imported ({error})", fix=fix) from None
    yield neighbors, linear_model, preprocessing
