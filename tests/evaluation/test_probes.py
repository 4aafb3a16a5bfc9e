"""Probes of embeddings: figures by hand, and the command on a network."""

from pathlib import Path

import numpy as np
import pytest
from teachers import edit_params, make_project, run_teacher

from pipeline.core.errors import DataError, ModelError
from pipeline.core.files import read_json
from pipeline.evaluation.probes import knn_accuracy, linear_accuracy, probe, recall
from stages import probe as command


def made(count: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings around one direction for each of three classes."""
    random = np.random.default_rng(seed)
    classes = np.arange(count) % 3
    centres = np.eye(3, 5)[classes] * 4
    return (centres + spread * random.normal(size=(count, 5))).astype(np.float32), classes.astype(np.int64)


def test_embeddings_that_know_the_classes_and_those_that_do_not() -> None:
    clear, none = probe(made(90, 0.3, 1), made(60, 0.3, 2)), probe(made(90, 300.0, 1), made(60, 300.0, 2))
    assert (clear.knn_accuracy, clear.linear_accuracy, clear.recall_at_1) == (1, 1, 1)
    assert (clear.num_dimensions, clear.num_train, clear.num_test) == (5, 90, 60)
    assert none.knn_accuracy < 0.6
    assert none.linear_accuracy < 0.6
    assert none.recall_at_1 < none.recall_at_10


def test_neighbours_and_recall_are_those_found_by_hand() -> None:
    train, test = made(40, 2.0, 1), made(30, 2.0, 2)
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors, _ in (train, test)]
    right = 0
    for vector, wanted in zip(unit[1], test[1], strict=True):
        far = 1 - unit[0] @ vector
        nearest = np.argsort(far)[:20]
        votes = [(1 / far[nearest])[train[1][nearest] == number].sum() for number in range(3)]
        right += int(np.argmax(votes)) == wanted
    assert knn_accuracy(train, test) == right / 30
    alike = unit[1] @ unit[1].T - 5 * np.eye(30)
    for count in (1, 10):
        found = [(test[1][np.argsort(-row)[:count]] == own).any() for row, own in zip(alike, test[1], strict=True)]
        assert recall(test, count) == np.mean(found)
    scaled = [(vectors * [1, 10, 100, 1, 1], classes) for vectors, classes in (train, test)]
    assert linear_accuracy(*scaled) == linear_accuracy(train, test)


def test_the_command_measures_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_project(tmp_path, {})
    edit_params(folder, "train_teacher.fit", epochs=1)
    run_teacher(folder)
    places = {"data": folder / "data/prepare", "teacher": folder / "data/train_teacher"}
    command.main("teacher", **places, reports=folder / "reports", samples=50, batch_size=16, device="cpu")
    found = read_json(folder / "reports/teacher.json", made_by="probe")
    assert (found["num_dimensions"], found["num_train"], found["num_test"]) == (32, 50, 32)
    assert f"k-NN {found['knn_accuracy']:.2%}, linear probe {found['linear_accuracy']:.2%}" in capsys.readouterr().err
    with pytest.raises((ModelError, DataError), match="nobody"):
        command.main("nobody", **places, students=folder / "data", reports=folder / "reports", device="cpu")
