"""The ladder of encodings, tried on the teacher's labels or a store's, and the one for a budget."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.config import validate
from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.files import write_bytes
from pipeline.core.tables import lines_of
from pipeline.labelling.choosing import by_size, choose, pareto_front
from pipeline.labelling.ladder import Rung, TrialLabels
from pipeline.labelling.tune_source import LabelSource
from pipeline.labels.encodings import Budget
from pipeline.results.ladder import Ladder, LadderRow

#: The option for each limit of a budget.
OPTIONS = {"bytes": "--bytes", "kl_nats": "--kl", "kl_p999_nats": "--kl-p999"}


def budget_of(limits: Mapping[str, float | None], total: str | None) -> Budget | None:
    """Returns the budget of a label that the options name; None where they name none, or a total.

    Raises ConfigError where they name several, or one that is none.

    Args:
        limits: By the name of the budget's limit.
    """
    given = {OPTIONS[limit]: (limit, value) for limit, value in limits.items() if value is not None}
    named = [*given, *(["--total"] if total is not None else [])]
    if len(named) > 1:
        raise ConfigError("tune_labels", f"both {' and '.join(named)}", expected="one of them")
    for option, (limit, value) in given.items():
        if not 0 < value < float("inf"):
            raise ConfigError(option, f"{value:g}", expected="a number above 0")
        budget: Budget = validate(Budget, {limit: value}, option)
        return budget
    return None


def check_source(source: LabelSource, budget: Budget | None) -> None:
    """Raises StoreError where labels are themselves further from the teacher than asked for."""
    if budget and budget.nats < (own := source.own_kl[budget.figure]):
        found = f"is itself {own:.1e} nats from the teacher, more than the {budget.nats:g} asked for"
        raise StoreError(source.about, found, fix="take labels from the teacher, or from a dense_float16 store")


def climb(source: LabelSource, num_labels: int, budget: Budget | None) -> tuple[Ladder, StoreError | None]:
    """Returns the measurements of every rung with the one that fits the budget, or the error that
    none does.

    Args:
        num_labels: The number of labels to measure each rung on.
    """
    labels = source.draw(num_labels)
    rungs = labels.rungs("tune_labels")
    chosen, misfit = None, None
    try:
        chosen = choose(rungs, budget, "tune_labels") if budget else None
    except StoreError as error:
        misfit = error
    return _measurements(source, rungs, labels, budget, chosen), misfit


def _measurements(
    source: LabelSource, rungs: dict[str, Rung], labels: TrialLabels, budget: Budget | None, chosen: str | None
) -> Ladder:
    front = pareto_front(rungs)
    return Ladder(
        labels_of=source.about,
        num_measured=len(labels.measured),
        num_pilot=len(labels.pilot),
        num_labels=labels.num_labels,
        num_views=source.num_views,
        num_classes=source.space.num_classes,
        temperature=source.space.temperature,
        temperatures=list(source.space.temperatures),
        own_kl_nats=source.own_kl["mean"],
        rows={name: _row(rung, name in front) for name, rung in by_size(rungs).items()},
        budget=budget.limit if budget else None,
        chosen=chosen,
        answer=source.space.signal.answer,
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
