"""Distillation of texts, sounds and clicks: did it pay, and what a step from stored labels takes.

    python -m benchmarks.inputs    # all three, by docs/params/{text,sound,recommendation}.yaml
    python -m benchmarks.inputs sound --seeds 1 --epochs 1    # a rehearsal

Each params file names its data in data/raw and says where to fetch them. Sounds are split by
speaker and clicks by time, so that nothing is measured on a speaker, or a moment, that was trained
on. Each student is trained with three seeds, and so is its hard-label twin. Then a step of each
is timed against its twin's, and against one with the teacher in the loop. The pipeline's own stages
run in work/inputs, so that the command can be killed and started again.
"""

import time
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.measure import in_turn, report
from benchmarks.project import Project, gained, set_epochs, write_params
from benchmarks.student_steps import STEPS, steps
from pipeline.core.config import load_params, load_table
from pipeline.core.errors import one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.signals import signal_named
from pipeline.student.settings import TrainStudent

FOLDER, PARAMS = Path("work/inputs"), Path("docs/params")
KINDS = ("text", "sound", "recommendation")
ROUNDS = 15
_AT_ONCE = 500


def main(
    kinds: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(KINDS)}.")] = None,
    seeds: int = 3,
    epochs: Annotated[int | None, typer.Option(help="Of teacher and students; by default those of the params.")] = None,
    raw: Path = Path("data/raw"),
) -> None:
    accuracies: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    for kind in kinds or KINDS:
        place = Kind(kind, seeds, epochs)
        place.make(raw)
        accuracies += place.accuracies()
        costs += place.costs()
    report("inputs", f"students of texts, sounds and clicks, {seeds} seeds, test splits", accuracies)
    n = f"median of {ROUNDS} pairs of {STEPS} steps"
    report("inputs_cost", f"a step against the twin's, and against one with the teacher in the loop, {n}", costs)


class Kind:
    """A project of one kind of inputs, and its students' twins."""

    def __init__(self, kind: str, seeds: int, epochs: int | None) -> None:
        self.kind, self.seeds, self.project = kind, seeds, Project(FOLDER / kind)
        params = load_params(PARAMS / f"{kind}.yaml")
        self.dump_seconds = 0.0
        set_epochs(params, epochs)
        rows = params["students"]
        #: The hard-label twin of each student that has one.
        self.twins = {row["twin_of"]: name for name, row in rows.items() if row.get("twin_of")}
        params["students"] = {
            f"{name}_{seed}": {key: value for key, value in row.items() if key != "twin_of"} | {"seed": seed}
            for seed in range(seeds)
            for student, twin in self.twins.items()
            for name, row in ((student, rows[student]), (twin, rows[twin]))
        }
        params["exports"] = []
        write_params(params, self.project.params)
        self.names = list(params["students"])

    def make(self, raw: Path) -> None:
        """Runs the stages up to every student."""
        self.project.make_teacher(raw)
        start = time.perf_counter()
        self.project.make_labels()
        self.dump_seconds = time.perf_counter() - start
        for name in self.names:
            self.project.make_student(name)

    def accuracies(self) -> list[dict[str, Any]]:
        """Returns the headline of each network on the test split, and what students gained."""
        signal = signal_named(ImageDataset(self.project.prepared).manifest.signal)
        teacher = self._score(self.project.teacher)
        table = [self._row("teacher", [teacher]) | {"figure": signal.headline_words}]
        for student, twin in self.twins.items():
            scores, others = (
                [self._score(self.project.student(f"{name}_{seed}")) for seed in range(self.seeds)]
                for name in (student, twin)
            )
            store = StoreReader(self.project.stores / f"{self._rows[f'{student}_0'].labels}.zarr")
            table.append(self._row(twin, others) | {"figure": signal.headline_words})
            row = self._row(student, scores, others) | {"figure": signal.headline_words}
            table.append(row | {"bytes per label": store.manifest.label_bytes})
        return table

    def _row(self, network: str, scores: list[float], twins: list[float] | None = None) -> dict[str, Any]:
        return {
            "inputs": self.kind,
            "network": network,
            "%": 100 * mean(scores),
            **({} if twins is None else gained(scores, twins)),
        }

    @property
    def _rows(self) -> dict[str, TrainStudent]:
        return load_table(TrainStudent, "students", self.project.params)

    def _score(self, folder: Path) -> float:
        """Returns a network's headline on the test split."""
        dataset, device = ImageDataset(self.project.prepared), choose_device("auto")
        test, model = dataset.split("test"), read_model(folder, made_by="inputs").to(device)
        logits = predict_logits(model, test.in_order(_AT_ONCE), device)
        return signal_named(dataset.manifest.signal).score(logits, test.hard_labels)

    def costs(self) -> list[dict[str, Any]]:
        """Returns what a step of each student takes, and what the dump took in this run."""
        table, rows = [], self._rows
        for student, twin in self.twins.items():
            with TemporaryDirectory() as folder:
                own, hard, online = (
                    steps(self.project, rows[f"{name}_0"], Path(folder) / number, online=teacher)
                    for number, name, teacher in (("0", student, False), ("1", twin, False), ("2", student, True))
                )
                stored, plain, ratio = in_turn(own, hard, ROUNDS)
                _, looped, faster = in_turn(own, online, ROUNDS)
            table.append(
                {
                    "inputs": self.kind,
                    "student": student,
                    "distilled ms": 1000 * stored / STEPS,
                    "hard ms": 1000 * plain / STEPS,
                    "ratio": ratio,
                    "online ms": 1000 * looped / STEPS,
                    "online / offline": 1 / faster,
                    "dump s": self.dump_seconds,
                }
            )
        return table


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
