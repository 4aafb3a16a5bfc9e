"""The result of the command `probe`: what an embedding knows of classes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """The figures of a network's embedding, each a share from 0 to 1.

    Attributes:
        knn_accuracy: Of the 20 nearest training samples.
        linear_accuracy: Of a logistic regression.
        recall_at_1: The share of test samples whose nearest other one is of their class;
            `recall_at_10`: one of the 10 nearest.
    """

    num_dimensions: int
    num_train: int
    num_test: int
    knn_accuracy: float
    linear_accuracy: float
    recall_at_1: float
    recall_at_10: float
