"""Every student of the table against its twin over several seeds, on the labels of `make repro`.

    python -m benchmarks.seeds            # seeds 0 1 2, judged on the test split
    python -m benchmarks.seeds --split val --seeds 3 --seeds 4

Trained networks are kept in work/seeds, so that the command can be interrupted and continued.
"""

import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer

from benchmarks.measure import need_data, report
from benchmarks.project import write_params
from pipeline.core.config import PARAMS, load_table
from pipeline.core.errors import ConfigError, one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.signals.metrics import accuracy
from pipeline.student.settings import TrainStudent
from stages import train_student

FOLDER = Path("work/seeds")


def main(
    seeds: list[int] = typer.Option((0, 1, 2)),
    split: str = "test",
    names: list[str] = typer.Option((), help="Only these rows of the table."),
    params: Path = PARAMS,
) -> None:
    need_data()
    images = ImageDataset(Path("data/prepare")).split(split)
    students = {
        name: row for name, row in load_table(TrainStudent, "students", params).items() if not names or name in names
    }
    if not any(row.twin_of in students for row in students.values()):
        raise ConfigError(params, f"no student with its twin in {sorted(students)}", expected="both of a pair")
    accuracies: dict[str, list[float]] = {name: [] for name in students}
    for seed in seeds:
        for name, row in students.items():
            model = read_model(_train(f"{name}-{seed}", replace(row, seed=seed)), made_by=f"train_student@{name}")
            logits = predict_logits(model, images.in_order(500), choose_device("cpu"))
            accuracies[name].append(100 * accuracy(logits, images.hard_labels))
    rows: list[dict[str, Any]] = []
    for name, row in students.items():
        if row.twin_of in students:
            gains = [a - b for a, b in zip(accuracies[row.twin_of], accuracies[name], strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            rows.append(
                {
                    "student": row.twin_of,
                    "distilled %": statistics.mean(accuracies[row.twin_of]),
                    "hard labels %": statistics.mean(accuracies[name]),
                    "gain (points)": statistics.mean(gains),
                    "standard error": round(error, 3) if error == error else None,
                    "gain by seed": " ".join(f"{gain:+.2f}" for gain in gains),
                }
            )
    report(
        f"seeds_{split}",
        f"students against hard-label twins, {split} accuracy, seeds {' '.join(map(str, seeds))}",
        rows,
    )


def _train(name: str, row: TrainStudent) -> Path:
    params = write_params({"students": {name: asdict(replace(row, twin_of=None))}}, FOLDER / f"{name}.yaml")
    train_student.main(
        name=name,
        params=params,
        labels="data/dump_labels",
        out=FOLDER / "trained",
        reports=FOLDER / "reports",
        work=FOLDER,
    )
    return FOLDER / "trained" / name


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
