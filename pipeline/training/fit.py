"""The one training loop, for teacher and students alike, for one network or several in one pass.

It takes tasks and knows nothing of stores or labels.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.files import write_bytes, write_json
from pipeline.core.progress import progress
from pipeline.core.stopping import HeldBack
from pipeline.core.tables import lines_of
from pipeline.training.run import FitResult
from pipeline.training.task import AnyBatch, Task
from pipeline.training.trainer import Trainer

#: (places of some of the runs, epoch, first step) -> at each step a batch for each of these runs
BatchesTogether = Callable[[Sequence[int], int, int], Iterable[tuple[AnyBatch, ...]]]


def fit(runs: Sequence[Trainer[AnyBatch]], batches: BatchesTogether[AnyBatch] | None = None) -> list[FitResult]:
    """Trains one network, or several in one pass over batches that are made once.

    Each goes on from the checkpoint in its folder, if there is one, and leaves its own there. Each
    comes to the bits that it would come to alone (on a CPU). All are trained by the same processes.

    Runs may stand at different places, because they were killed between the checkpoint of one and
    that of another. Then the least advanced goes first, and the others let its batches pass. The
    shorter ones end earlier.

    Args:
        runs: All with the same number of steps per epoch, in whatever place their checkpoints left
            them.
        batches: The batches that several runs share; None: those of the task of a single run.

    Raises:
        ModelError: A loss stops being a finite number.
    """
    if batches is None:
        (alone,) = runs
        batches = partial(_batches_alone, alone.task)
    steps = runs[0].task.steps_per_epoch
    assert all(run.task.steps_per_epoch == steps for run in runs), "who has the same batches has as many"
    total = steps * max(run.settings.epochs for run in runs)
    done = min((run.state.epoch * steps + run.state.step for run in runs if not run.finished), default=total)
    name = runs[0].name + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")
    with progress(name, total, "step", done) as on_steps:
        while going := [place for place, run in enumerate(runs) if not run.finished]:
            epoch = min(runs[place].state.epoch for place in going)
            places = [place for place in going if runs[place].state.epoch == epoch]
            here = [runs[place] for place in places]
            start = min(run.state.step for run in here)
            on_steps(epoch * steps + start - done)  # what none of them has to train
            _train_epoch(here, batches(places, epoch, start), start, on_steps)
            done = (epoch + 1) * steps
        on_steps(total - done)  # what patience left out
    return [run.result() for run in runs]


def _batches_alone(task: Task[AnyBatch], places: Sequence[int], epoch: int, start: int) -> Iterator[tuple[AnyBatch]]:
    return ((batch,) for batch in task.batches(epoch, start))


def _train_epoch(
    runs: Sequence[Trainer[AnyBatch]],
    batches: Iterable[tuple[AnyBatch, ...]],
    start: int,
    on_steps: Callable[[int], object],
) -> None:
    """Trains the rest of the epoch that all of these runs are in."""
    for run in runs:
        run.begin_epoch()
    tick = time.monotonic()
    with HeldBack() as signal:
        for step, several in enumerate(batches, start):
            waited = (time.monotonic() - tick) / len(runs)
            for run, batch in zip(runs, several, strict=True):
                if run.state.step == step:  # else it is further than the others
                    with run.turn(waited):
                        run.step(batch)
                        run.save_if_due()
            on_steps(1)
            if all(run.between_updates for run in runs):  # each has a checkpoint of this step
                signal.stop()
            tick = time.monotonic()
    for run in runs:
        with run.turn():
            run.end_epoch()


def write_reports(name: Path, result: FitResult, metrics: dict[str, Any]) -> None:
    """Writes `<name>.tsv`, figures per epoch for `dvc plots`, and `<name>.json` for `dvc
    metrics`.
    """
    columns = list(result.state.history[0]) if result.state.history else ["epoch"]
    rows = [list(columns), *([f"{row[c]:.6g}" for c in columns] for row in result.state.history)]
    write_bytes(name.with_suffix(".tsv"), "".join(lines_of(rows)).encode())
    write_json(name.with_suffix(".json"), metrics | {"seconds": round(result.state.seconds, 1)})
