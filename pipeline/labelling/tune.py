"""The encoding for a budget: a ladder of encodings is tried on the teacher's labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.files import write_bytes
from pipeline.core.progress import progress
from pipeline.core.tables import lines_of
from pipeline.labelling.ladder import Rung, ladder, measure_encoding
from pipeline.labelling.tune_source import LabelSource
from pipeline.results.ladder import Ladder, LadderRow


@dataclass(frozen=True)
class Budget:
    """The most that a label may take, or the most that it may lose; None for no limit.

    Attributes:
        max_bytes: Bytes on disk per label.
        max_kl: Mean KL in nats at every declared temperature.
    """

    max_bytes: float | None = None
    max_kl: float | None = None

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_kl is not None:
            raise ConfigError("tune_labels", "both --bytes and --kl", expected="one of them")
        for name, value in {"--bytes": self.max_bytes, "--kl": self.max_kl}.items():
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(name, f"{value:g}", expected="a number above 0")

    def check(self, source: LabelSource) -> None:
        """Raises StoreError where the labels are themselves further from the teacher than asked
        for.
        """
        if self.max_kl is not None and self.max_kl < source.own_kl:
            found = f"is itself {source.own_kl:.1e} nats from the teacher, more than the {self.max_kl:g} asked for"
            raise StoreError(source.about, found, fix="take labels from the teacher, or from a dense_float16 store")

    def to_dict(self) -> dict[str, float] | None:
        """Returns the limit by its unit; None where there is none."""
        if self.max_bytes is not None:
            return {"bytes": self.max_bytes}
        return None if self.max_kl is None else {"kl_nats": self.max_kl}

    def __str__(self) -> str:
        if self.max_bytes is not None:
            return f"{self.max_bytes:g} bytes per label"
        return f"a mean KL of {self.max_kl:g} nats"


def climb(source: LabelSource, num_labels: int, budget: Budget) -> tuple[Ladder, StoreError | None]:
    """Returns the measurements of every rung with the one that fits the budget, or the error that
    none does.

    Args:
        num_labels: The number of labels to measure each rung on.
    """
    # 1. Labels to measure, and others that encodings learn from, are drawn from the source.
    log_probs, pilot = source.draw(num_labels)
    # 2. Every rung is written as a real store.
    in_store = source.num_views * source.num_samples
    rungs: dict[str, Rung] = {}
    encodings = ladder(source.space)
    with progress("tune_labels", len(encodings), "encoding") as on_encodings:
        for name, encoding in encodings.items():
            rungs[name] = measure_encoding(
                log_probs,
                encoding,
                source.space,
                pilot=pilot,
                num_labels=in_store,
                block_samples=source.block_samples,
            )
            on_encodings(1)
    # 3. The budget decides.
    chosen, misfit = None, None
    try:
        chosen = choose(rungs, max_bytes=budget.max_bytes, max_kl=budget.max_kl) if budget.to_dict() else None
    except StoreError as error:
        misfit = error
    return _measurements(source, rungs, (len(log_probs), len(pilot)), budget, chosen), misfit


def _measurements(
    source: LabelSource, rungs: dict[str, Rung], counts: tuple[int, int], budget: Budget, chosen: str | None
) -> Ladder:
    front = pareto_front(rungs)
    num_measured, num_pilot = counts
    return Ladder(
        labels_of=source.about,
        num_measured=num_measured,
        num_pilot=num_pilot,
        num_labels=source.num_views * source.num_samples,
        num_views=source.num_views,
        num_classes=source.space.num_classes,
        temperature=source.space.temperature,
        temperatures=list(source.space.temperatures),
        own_kl_nats=source.own_kl,
        rows={name: _row(rung, name in front) for name, rung in by_size(rungs).items()},
        budget=budget.to_dict(),
        chosen=chosen,
    )


def _row(rung: Rung, on_front: bool) -> LadderRow:
    return LadderRow(
        encoding=rung.encoding.to_dict(),
        label_bytes=rung.label_bytes,
        field_bytes=rung.field_bytes,
        table_bytes=rung.table_bytes,
        kl_nats=rung.fidelity["kl_nats"],
        worst_kl_nats=rung.worst_kl,
        top1_agreement=rung.fidelity["top1_agreement"],
        on_front=on_front,
    )


def by_size(rungs: Mapping[str, Rung]) -> dict[str, Rung]:
    """Returns the rungs with the smallest first, and among equals the one with the smallest KL."""
    return dict(sorted(rungs.items(), key=lambda item: (item[1].label_bytes, item[1].worst_kl or 0.0)))


def pareto_front(rungs: Mapping[str, Rung]) -> list[str]:
    """Returns the rungs that serve every declared temperature and that no other one is both as
    small and as close to the teacher as, the smallest first.
    """
    front: list[str] = []
    best = np.inf
    for name, rung in by_size(rungs).items():
        if rung.worst_kl is not None and rung.worst_kl < best:
            front.append(name)
            best = rung.worst_kl
    return front


def choose(rungs: Mapping[str, Rung], *, max_bytes: float | None = None, max_kl: float | None = None) -> str:
    """Returns the rung closest to the teacher in at most `max_bytes` per label, or the smallest one
    whose mean KL is at most `max_kl` nats at every declared temperature.

    Raises:
        StoreError: With the nearest rung, where none fits.
    """
    assert (max_bytes is None) != (max_kl is None), "one budget"
    front = pareto_front(rungs)
    kl = {name: rungs[name].worst_kl or 0.0 for name in front}
    if max_bytes is not None:
        fitting = [name for name in front if rungs[name].label_bytes <= max_bytes]
        chosen, nearest, asked = fitting[-1:], front[0], f"{max_bytes:g} bytes per label"
    else:
        fitting = [name for name in front if kl[name] <= (max_kl or 0.0)]
        chosen, nearest, asked = fitting[:1], front[-1], f"a mean KL of {max_kl:g} nats"
    if not chosen:
        found = f"no encoding of the ladder fits {asked}"
        near = f"{nearest}: {rungs[nearest].label_bytes:.3f} bytes per label, mean KL up to {kl[nearest]:.1e} nats"
        raise StoreError("tune_labels", found, fix=f"the nearest is {near}")
    return chosen[0]


def write_ladder_table(path: Path, measured: Ladder) -> None:
    """Writes the measurements as a table; the same measurements give the same bytes."""
    temperatures = [f"{t:g}" for t in measured.temperatures]
    columns = ["encoding", "label_bytes", "table_bytes", "top1_agreement", "on_front"]
    rows = [[*columns, *(f"{kind}_kl_at_{t}" for kind in ("mean", "p999") for t in temperatures)]]
    for name, row in measured.rows.items():
        cells = [name, f"{row.label_bytes:.6g}", str(row.table_bytes), f"{row.top1_agreement:.6g}"]
        cells.append(str(int(row.on_front)))
        for kind in ("mean", "p999"):
            cells += [f"{row.kl_nats[t][kind]:.6g}" if t in row.kl_nats else "" for t in temperatures]
        rows.append(cells)
    write_bytes(path, "".join(lines_of(rows)).encode())
