"""A training step of each student against that of its hard-label twin, whatever labels are of.

    cp docs/params/multilabel.yaml params.yaml && dvc repro dump_labels
    python -m benchmarks.signal_steps

It takes the students of params.yaml as they are: their stores, embeddings beside labels included.
"""

from dataclasses import replace

import typer

from benchmarks.measure import DeviceOption, in_turn, need_data, operations, report
from benchmarks.step_cost import ROUNDS, STEPS, Data, milliseconds, steps
from pipeline.core.config import load_table
from pipeline.core.errors import one_line_errors
from pipeline.models.devices import choose_device
from pipeline.student.settings import TrainStudent


def main(device: DeviceOption = None, rounds: int = ROUNDS) -> None:
    need_data()
    where = choose_device(device or "auto")
    data, rows = Data.read(where), []
    for name, row in load_table(TrainStudent, "students").items():
        if row.twin_of is not None:
            continue
        hard = replace(row, labels="none", hard_weight=1.0, soft_weight=0.0, features=None)
        distilled, plain = steps(row, data), steps(hard, data)
        own, twin, ratio = in_turn(distilled, plain, rounds)
        learns = {"labels": row.labels, "features": row.features, "loss": row.loss["kind"]}
        took = {"distilled ms": milliseconds(own), "hard ms": milliseconds(twin), "ratio": ratio}
        counts = {"operations": operations(distilled) / STEPS, "hard operations": operations(plain) / STEPS}
        rows.append({"student": name, **learns, **took, **counts})
    signal = data.signal
    report(
        f"signal_steps_{signal}", f"a step against the twin's, {signal}, {rounds} pairs of {STEPS} steps", rows, where
    )


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
