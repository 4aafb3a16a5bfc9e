"""A training step of each student against that of its hard-label twin, whatever labels are of.

    python -m benchmarks.signal_steps                      # every kind and every student below
    python -m benchmarks.signal_steps text --student bag   # one row of the table

Each kind is a short project of docs/params/<kind>.yaml in work/signal_steps/<kind>: one epoch of
the teacher and one view. Networks, batches, stores and losses are those of the params file. Texts
and clicks are drawn, in the sizes of the data sets there: a step's time does not depend on what
they say. The pipeline's own stages run, so that the command can be killed and started again.
"""

import csv
import shutil
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.measure import DeviceOption, in_turn, operations, report
from benchmarks.project import Project, write_params
from benchmarks.student_steps import STEPS, steps
from pipeline.core.config import load_params, load_table
from pipeline.core.errors import ConfigError, one_line_errors, suggest
from pipeline.models.devices import choose_device
from pipeline.student.settings import TrainStudent

FOLDER, PARAMS = Path("work/signal_steps"), Path("docs/params")
ROUNDS = 25
KINDS = ("multilabel", "segmentation", "embedding", "text", "recommendation")


def main(
    kinds: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(KINDS)}.")] = None,
    student: Annotated[list[str] | None, typer.Option(help="Of the params file; by default all.")] = None,
    device: DeviceOption = None,
    rounds: int = ROUNDS,
    raw: Path = Path("data/raw"),
    make_only: Annotated[bool, typer.Option(help="Make the projects, and measure nothing.")] = False,
) -> None:
    for kind in kinds or KINDS:
        if kind not in KINDS:
            raise ConfigError("kind", repr(kind), expected=suggest(kind, KINDS))
        project = made(kind, raw)
        if not make_only:
            rows = measured(project, student, device or "auto", rounds)
            claim = f"a step against the twin's, {kind}, {rounds} pairs of {STEPS} steps"
            report(f"signal_steps_{kind}", claim, rows, choose_device(device or "auto"))


def made(kind: str, raw: Path) -> Project:
    """Returns a project of a kind with its stores; what is there is not made again."""
    project, params = Project(FOLDER / kind), load_params(PARAMS / f"{kind}.yaml")
    source, fit = params["prepare"]["source"], params["train_teacher"]["fit"]
    if kind == "text":
        source["path"] = str(drawn_texts(project.place / "texts.csv"))
    if kind == "recommendation":
        params["prepare"]["source"] = drawn_clicks(project.place / "clicks.csv")
    fit["epochs"] = min(fit["epochs"], 1)  # 0 of an estimator, which is fitted at once
    params["dump_labels"]["num_views"] = 1
    write_params(params | {"exports": []}, project.params)
    project.make_teacher(raw)
    project.make_labels()
    return project


def drawn_texts(path: Path) -> Path:
    """Writes 2,225 texts of five classes, of 384 words on average, by Zipf's law among 30,000; each
    tenth word is the class.
    """
    random = Random(0)
    words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 10))) for _ in range(30_000)]
    shares, rows = [*accumulate(1 / rank for rank in range(1, len(words) + 1))], []
    for number in range(2225):
        name, text = f"class{number % 5}", random.choices(words, cum_weights=shares, k=random.randint(100, 668))
        text[::10] = [name] * len(text[::10])
        rows.append([name, " ".join(text)])
    return _write(path, ["label", "text"], rows)


def drawn_clicks(path: Path) -> dict[str, Any]:
    """Writes 100,000 clicks of 943 users on 1,682 items, with five other columns; returns the
    source that reads them. Users with an even number click three times as often as others.
    """
    random, kinds = Random(0), {"user": 943, "item": 1682, "gender": 2, "occupation": 21, "genres": 200}
    rows = []
    for _ in range(100_000):
        cells = [random.randrange(most) for most in kinds.values()]
        clicked = random.random() < (0.25 if cells[0] % 2 else 0.75)
        rows.append([int(clicked), *cells, round(random.gauss(40, 15), 1), random.randint(1930, 1998)])
    _write(path, ["click", *kinds, "age", "year"], rows)
    columns = dict.fromkeys(kinds, "category") | {"age": "number", "year": "number"}
    positive = {"class_name": "click", "at_least": 1.0}
    return {"kind": "rows", "path": str(path), "columns": columns, "label_column": "click", "positive": positive}


def _write(path: Path, header: list[str], rows: Any) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".part").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        shutil.move(path.with_suffix(".part"), path)
    return path


def measured(project: Project, names: list[str] | None, device: str, rounds: int) -> list[dict[str, Any]]:
    """Returns what a step of each student takes, and one of the same network on hard labels."""
    table, found = load_table(TrainStudent, "students", project.params), []
    for name in names or [name for name, row in table.items() if row.twin_of is None]:
        if name not in table:
            raise ConfigError("--student", repr(name), expected=suggest(name, list(table)))
        row = table[name]
        hard = replace(row, labels="none", hard_weight=1.0, soft_weight=0.0, features=None)
        with TemporaryDirectory() as folder:
            own, twin = (
                steps(project, each, Path(folder) / number, device=device) for number, each in (("0", row), ("1", hard))
            )
            distilled, plain, ratio = in_turn(own, twin, rounds)
            counts = {"operations": operations(own) / STEPS, "hard operations": operations(twin) / STEPS}
        learns = {"labels": row.labels, "features": row.features or "", "loss": loss_of(row)}
        took = {"distilled ms": 1000 * distilled / STEPS, "hard ms": 1000 * plain / STEPS, "ratio": ratio}
        found.append({"student": name, **learns, **took, **counts})
    return found


def loss_of(row: TrainStudent) -> str:
    """Returns the kinds of losses of soft labels and of embeddings."""
    kinds = [row.loss["kind"]] if row.soft_weight else []
    return ", ".join([*kinds, *([row.feature_loss["kind"]] if row.features else [])])


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
