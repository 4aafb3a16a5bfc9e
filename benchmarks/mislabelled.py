"""Hard labels made wrong on purpose, and how many of them the teacher's soft labels reveal.

The teacher was trained on these very labels.

    python -m benchmarks.mislabelled

Some training labels of what `make repro` left are flipped: to any other class, or to the likeliest
wrong class by the stored labels. The stages train the default teacher on that and dump its labels,
in work/mislabelled; work that is there already is continued. Precision and recall are those of the
suspects. A loss gives no number of suspects: as many are taken as from the teacher's stored views.

The last row shows the cost of the teacher having seen the labels: its teachers have not, and label
the same views.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from jaxtyping import Bool, Float, Int64
from sklearn.metrics import average_precision_score

from benchmarks.measure import need_data, report
from pipeline.core.config import load_row, load_section
from pipeline.core.errors import one_line_errors
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import SplitInMemory
from pipeline.explanation.opinions import Opinion, Opinions, choose_store, stored_opinions
from pipeline.explanation.suspects import class_thresholds, judge
from pipeline.labelling.settings import DumpLabels
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.preparation.write import write_dataset
from pipeline.student.settings import TrainStudent
from pipeline.views.plan import view_batches

FOLDER = Path("work/mislabelled")
_SECTIONS = ("train_teacher", "dump_labels", "encodings", "students_defaults", "students")
Probs = Float[np.ndarray, "samples classes"]


def main(
    share: float = typer.Option(0.05, help="The share of training labels to flip."),
    images: int | None = typer.Option(None, help="Training images; by default all."),
    epochs: int | None = typer.Option(None, help="Epochs of teacher and student; by default those of params.yaml."),
    folds: int = typer.Option(3, help="Number of teachers that have not seen the labels of their own fold; 0: none."),
    student: str = "small",
    seed: int = 0,
) -> None:
    need_data()
    clean = ImageDataset(Path("data/prepare"))
    splits = {name: clean.split(name) for name in ("train", "val", "test")}
    likeliest = _likeliest_others(splits["train"], clean.manifest.class_names)
    if images:
        few = {name: round(len(split) * images / len(splits["train"])) for name, split in splits.items()}
        splits = {name: _take(split, np.arange(few[name])) for name, split in splits.items()}
    rows: list[dict[str, Any]] = []
    for kind, others in {"any class": None, "the likeliest other": likeliest}.items():
        labels, is_wrong = _flip(splits["train"].hard_labels.numpy(), share, others, len(likeliest), seed)
        flipped = splits | {"train": replace(splits["train"], hard_labels=torch.from_numpy(labels))}
        run = Run(FOLDER / kind.replace(" ", "_"), flipped, clean.manifest.class_names, epochs, student)
        for name, (score, suspects) in run.findings(folds).items():
            figures = _figures(score, suspects, is_wrong)
            say(f"mislabelled: to {kind}: {name}: {figures}")
            rows.append({"flipped to": kind, "told by": name, **figures})
    wrong = f"{share:.0%} of {len(splits['train']):,} labels flipped, {rows[0]['flips']:,} of them"
    report("mislabelled", f"{wrong}; figures in %, average precision of the ranking as a whole", rows)


class Run:
    """The stages on some data, in a folder of their own."""

    def __init__(
        self, folder: Path, splits: dict[str, SplitInMemory], names: list[str], epochs: int | None, student: str
    ) -> None:
        self.folder, self._splits, self._names, self._student = folder.resolve(), splits, names, student
        params: dict[str, Any] = {section: load_section(dict, section) for section in _SECTIONS}
        row = load_row(TrainStudent, "students", student)
        params["encodings"] = {row.labels: params["encodings"][row.labels]}
        if epochs:
            params["train_teacher"]["fit"]["epochs"] = epochs
            params["students"][student]["fit"] = params["students"][student].get("fit", {}) | {"epochs": epochs}
        self._params = params
        self._write_data(self.folder, splits)

    def findings(self, folds: int) -> dict[str, tuple[Float[np.ndarray, " samples"], Int64[np.ndarray, " some"]]]:
        """Returns the score of every sample and the suspects, by the source of the finding."""
        self._stage(self.folder, "train_teacher")
        self._stage(self.folder, "dump_labels")
        self._stage(self.folder, "train_student", "--name", self._student)
        train, labels = self._splits["train"], self._splits["train"].hard_labels.numpy()
        store = choose_store(self.folder / "data/dump_labels")
        assert store is not None, "it was written above"
        mean = _probs(stored_opinions(store, train))
        first = _probs(stored_opinions(store, train, views=range(1)))
        num_views = store.manifest.num_views
        _, count = judge(_opinions(mean), labels, len(self._names))
        own = np.arange(len(labels)), labels
        found = {
            f"teacher, {num_views} stored views": _suspects(mean, labels),
            "teacher, 1 stored view": _suspects(first, labels),
            f"teacher, {num_views} stored views, confident learning": _off_diagonal(mean, labels),
            f"teacher, {num_views} stored views, loss": _worst(-np.log(mean[own]), count),
            f"student {self._student!r}, loss": _worst(
                -np.log(self._plain("train_student/" + self._student)[own]), count
            ),
        }
        if folds:
            found[f"{folds} teachers, none asked about what it has seen"] = _suspects(
                self._by_others(folds, store), labels
            )
        return found

    def _by_others(self, folds: int, store: StoreReader) -> Probs:
        """Returns predictions for the same views by teachers trained on the other folds."""
        train = self._splits["train"]
        probs = np.zeros((len(train), len(self._names)))
        settings = load_section(DumpLabels, "dump_labels")
        fold_of = np.arange(len(train)) % folds
        for fold in range(folds):
            folder = self.folder / f"fold{fold}"
            self._write_data(folder, self._splits | {"train": _take(train, np.flatnonzero(fold_of != fold))})
            self._stage(folder, "train_teacher")
            rows, device = np.flatnonzero(fold_of == fold), choose_device("auto")
            model = read_model(folder / "data/train_teacher", made_by="train_teacher").to(device)
            for view in store.manifest.view_numbers:
                batches = view_batches(train, store.views, view, rows, settings.batch_size)
                probs[rows] += predict_logits(model, batches, device).double().softmax(dim=1).numpy()
        return probs / store.manifest.num_views

    def _plain(self, network: str) -> Probs:
        """Returns a network's predictions for the images as they are."""
        device = choose_device("auto")
        model = read_model(self.folder / "data" / network, made_by=network.partition("/")[0]).to(device)
        probs: np.ndarray = (
            predict_logits(model, self._splits["train"].in_order(500), device).double().softmax(dim=1).numpy()
        )
        return probs

    def _write_data(self, folder: Path, splits: dict[str, SplitInMemory]) -> None:
        shutil.rmtree(folder / "data/prepare", ignore_errors=True)
        write_dataset(folder / "data/prepare", "flipped", self._names, splits)
        write_json(folder / "params.yaml", self._params)  # JSON is YAML

    def _stage(self, folder: Path, stage: str, *arguments: str) -> None:
        """Runs a stage; returns at once if it was run before."""
        options = {"params": "params.yaml", "data": "data/prepare", "out": f"data/{stage}", "work": "work"}
        options |= {
            "train_teacher": {"reports": "reports"},
            "dump_labels": {"teacher": "data/train_teacher"},
            "train_student": {"labels": "data/dump_labels", "reports": "reports/train_student"},
        }[stage]
        named = [f"--{key}={folder / value}" for key, value in options.items()]
        done = subprocess.run([sys.executable, "-m", f"stages.{stage}", *arguments, *named], check=False)
        if done.returncode:
            raise typer.Exit(done.returncode)  # the stage has printed why


def _likeliest_others(train: SplitInMemory, names: list[str]) -> Int64[np.ndarray, " classes"]:
    """Returns for each class the other one that its samples are taken for most.

    It is found by the stored labels of the right data.
    """
    store = choose_store(Path("data/dump_labels"))
    assert store is not None, "`make repro` writes some"
    probs, labels = _probs(stored_opinions(store, train)), train.hard_labels.numpy()
    means = np.stack([probs[labels == number].mean(axis=0) for number in range(len(names))])
    np.fill_diagonal(means, -1.0)
    likeliest: np.ndarray = means.argmax(axis=1)
    return likeliest


def _flip(
    labels: Int64[np.ndarray, " samples"],
    share: float,
    others: Int64[np.ndarray, " classes"] | None,
    num_classes: int,
    seed: int,
) -> tuple[Int64[np.ndarray, " samples"], Bool[np.ndarray, " samples"]]:
    """Returns labels of which a share is wrong, and a mask of the wrong ones."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))[: round(share * len(labels))]
    flipped = labels.copy()
    anyone = (labels[rows] + rng.integers(1, num_classes, len(rows))) % num_classes
    flipped[rows] = anyone if others is None else others[labels[rows]]
    return flipped, flipped != labels


def _take(split: SplitInMemory, rows: Int64[np.ndarray, " some"]) -> SplitInMemory:
    return SplitInMemory(split.inputs[rows], split.hard_labels[rows], split.sample_ids[rows])


def _probs(opinions: Opinions) -> Probs:
    """Returns the teacher's probabilities as one array; every sample has them."""
    parts = list(opinions())
    order = np.argsort(np.concatenate([part.places for part in parts]))
    probs: np.ndarray = np.concatenate([part.probs for part in parts])[order]
    return probs


def _opinions(probs: Probs) -> Callable[[], list[Opinion]]:
    return lambda: [Opinion(np.arange(len(probs)), probs)]


def _suspects(probs: Probs, labels: Int64[np.ndarray, " samples"]) -> tuple[np.ndarray, np.ndarray]:
    suspicions, count = judge(_opinions(probs), labels, probs.shape[1])
    return suspicions.suspicion, suspicions.worst(count).places


def _off_diagonal(probs: Probs, labels: Int64[np.ndarray, " samples"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the normalised margin as the score, and the samples off the diagonal.

    The diagonal is that of confident learning's joint.
    """
    confident = np.where(probs >= class_thresholds(_opinions(probs), labels, probs.shape[1]), probs, -1.0)
    named, rows = confident.argmax(axis=1), np.arange(len(labels))
    suspicions, _ = judge(_opinions(probs), labels, probs.shape[1])
    is_suspect = (confident[rows, named] >= 0) & (named != labels)
    return suspicions.teacher_probs - suspicions.hard_probs, np.flatnonzero(is_suspect)


def _worst(score: Float[np.ndarray, " samples"], count: int) -> tuple[np.ndarray, np.ndarray]:
    return score, np.argsort(-score, kind="stable")[:count]


def _figures(
    score: Float[np.ndarray, " samples"], suspects: Int64[np.ndarray, " some"], is_wrong: Bool[np.ndarray, " samples"]
) -> dict[str, Any]:
    flips = int(is_wrong.sum())
    found, first = is_wrong[suspects].sum(), np.argsort(-score, kind="stable")[:flips]
    return {
        "flips": flips,
        "suspects": len(suspects),
        "precision": round(100 * float(found) / max(1, len(suspects)), 1),
        "recall": round(100 * float(found) / flips, 1),
        "average precision": round(100 * float(average_precision_score(is_wrong, score)), 1),
        "precision of as many as flips": round(100 * float(is_wrong[first].mean()), 1),
    }


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
