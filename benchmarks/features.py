"""Students that learn from the teacher's embeddings: did it pay, and what did not.

    python -m benchmarks.features              # on the data and the teacher that `make repro` left
    python -m benchmarks.features --seeds 1 --epochs 1    # a rehearsal

First all images are labelled: stored labels alone, and with each loss of embeddings beside them,
against a hard-label twin. Then a tenth is: a student that was trained on embeddings of all images,
without any class, and goes on with the hard labels of that tenth, against the tenth alone. The
pipeline's own stages run in work/features, so that the command can be killed and started again.
Accuracies are of the test images.
"""

from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.measure import need_data, report
from benchmarks.project import write_params
from pipeline.core.config import load_params
from pipeline.core.errors import one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.data.hard_labels import UNLABELLED
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.signals.metrics import accuracy
from stages import dump_labels, prepare, train_student

FOLDER = Path("work/features")
PREPARED, TEACHER, LABELS = Path("data/prepare"), Path("data/train_teacher"), FOLDER / "labels"
ENCODINGS = {
    "dense8": {"kind": "dense_uint8", "range_nats": 40.0, "levels": 255},
    "embedding": {"kind": "vector_int8"},
    "none": {"kind": "none"},
}
_HARD, _SOFT = {"hard_weight": 1.0, "soft_weight": 0.0}, {"hard_weight": 0.0, "soft_weight": 1.0}
_FREE = {"hard_weight": 0.0, "soft_weight": 0.0, "features": "embedding"}
_LOSSES = ("cosine", "mse", "rkd", "sp")


def arms() -> dict[str, dict[str, Any]]:
    """Returns the changes of a student's row where all images are labelled, by arm."""
    beside = {f"labels, {kind}": _SOFT | {"features": "embedding", "feature_loss": {"kind": kind}} for kind in _LOSSES}
    return {"twin": {"labels": "none"} | _HARD, "labels": _SOFT, **beside, "embedding alone": _FREE}


def arms_of_a_tenth(epochs: int, seed: int) -> dict[str, dict[str, Any]]:
    """Returns the same where a tenth is labelled: as many steps as `epochs` over all images."""
    steps = {"labels": "none", "fit": {"epochs": 10 * epochs}} | _HARD
    pretrained = FOLDER / "students" / _file_name("embedding alone", seed) / "weights.safetensors"
    return {
        "a tenth": steps,
        "a tenth, twice the steps": steps | {"fit": {"epochs": 20 * epochs}},
        "embedding of all, then a tenth": steps | {"weights": str(pretrained), "new_head": True},
    }


def main(
    student: str = "tiny",
    seeds: int = 3,
    epochs: Annotated[int | None, typer.Option(help="Of a student; by default those of params.yaml.")] = None,
) -> None:
    need_data()
    params = load_params()
    own = params["students"][student] | {"fit": {"epochs": epochs or params["students_defaults"]["fit"]["epochs"]}}
    few = label_a_tenth(params)
    label(params)
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        for data, rows in ((PREPARED, arms()), (few, arms_of_a_tenth(own["fit"]["epochs"], seed))):
            for arm, row in rows.items():
                name = _file_name(arm, seed)
                train(params, name, own | row | {"seed": seed}, data)
                found.setdefault(arm, []).append(judge(FOLDER / "students" / name))
    table = [_row(arm, values, found["a tenth" if "tenth" in arm else "twin"]) for arm, values in found.items()]
    report("features", f"student {student!r}, test accuracy in %, {seeds} seeds", table)


def label(params: dict[str, Any]) -> None:
    """Has the teacher write its labels and its embedding, in one pass."""
    path = write_params(params | {"encodings": ENCODINGS}, FOLDER / "labels.yaml")
    dump_labels.main(path, PREPARED, TEACHER, LABELS, FOLDER / "work")


def label_a_tenth(params: dict[str, Any]) -> Path:
    """Prepares the same images with a tenth of the hard labels; returns where.

    Rows are in an order of their own, not by class.
    """
    dataset, arrays = ImageDataset(PREPARED), FOLDER / "tenth"
    arrays.mkdir(parents=True, exist_ok=True)
    for name in ("train", "val", "test"):
        split = dataset.split(name)
        labels = split.hard_labels.numpy().copy()
        if name == "train":
            labels[len(labels) // 10 :] = UNLABELLED
        np.save(arrays / f"{name}_images.npy", split.inputs.numpy())
        np.save(arrays / f"{name}_labels.npy", labels)
    source = {"kind": "arrays", "path": str(arrays), "classes": dataset.manifest.class_names, "layout": "nchw"}
    path = write_params(params | {"prepare": params["prepare"] | {"source": source}}, FOLDER / "tenth.yaml")
    prepare.main(path, FOLDER, FOLDER / "prepared", FOLDER / "work")
    return FOLDER / "prepared"


def train(params: dict[str, Any], name: str, row: dict[str, Any], data: Path) -> None:
    path = write_params(params | {"students": {name: row | {"twin_of": None}}}, FOLDER / "rows" / f"{name}.yaml")
    train_student.main(name, path, data, str(LABELS), FOLDER / "students", FOLDER / "reports", FOLDER / "work")


def judge(folder: Path) -> float:
    """Returns a network's accuracy on the test split, in %."""
    test, device = ImageDataset(PREPARED).split("test"), choose_device("auto")
    outputs = predict_logits(read_model(folder, made_by="features").to(device), test.in_order(500), device)
    return 100 * accuracy(outputs, test.hard_labels)


def _row(arm: str, values: list[float], others: list[float]) -> dict[str, Any]:
    gains = [own - other for own, other in zip(values, others, strict=True)]
    return {
        "learns from": arm,
        "accuracy %": mean(values),
        "its sd": stdev(values) if len(values) > 1 else None,
        "gain (points)": mean(gains),
        "gain's sd": stdev(gains) if len(gains) > 1 else None,
    }


def _file_name(arm: str, seed: int) -> str:
    return f"{arm.replace(',', '').replace(' ', '_')}_{seed}"


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
