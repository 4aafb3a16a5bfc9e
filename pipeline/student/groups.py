"""Groups of students that are trained in one pass: their rows, and what these must share."""

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path

from pipeline.core.config import load_row, load_rows, load_table, validate
from pipeline.core.errors import ConfigError
from pipeline.labels.reader import StoreReader
from pipeline.student.feature_losses import build_feature_loss
from pipeline.student.losses import build_loss
from pipeline.student.settings import TrainStudent
from pipeline.training.team import Team

#: Settings that decide what is in a batch, and those of which a process has only one.
_ALIKE = ("seed", "fit.batch_size", "new_views", "device", "memory_budget_mb")


def read_group(name: str, params: Path) -> dict[str, TrainStudent]:
    """Returns a student's row and then those of its group, by name.

    Raises:
        ConfigError: A row lacks keys, or its keys contradict each other.
    """
    own = load_row(TrainStudent, "students", name, params)
    rows = {name: own}
    if own.group is not None:
        for each, row in load_table(dict, "students", params).items():
            if row.get("group") == own.group and each != name:
                rows[each] = validate(TrainStudent, row, f"{params}: students.{each}")
    table = load_rows("students", params)
    for each, settings in rows.items():
        settings.check(f"{params}: students.{each}", table)
    return rows


def check_team(team: Team, rows: Mapping[str, TrainStudent], where: str) -> None:
    """Raises ConfigError where a loss compares the examples of a batch that processes share."""
    for name, row in rows.items():
        loss = build_loss(row.loss, f"{where}.{name}.loss")
        if team.world > 1 and row.soft_weight and loss.compares_examples:
            found = f"compares the examples of a batch, which {team.world} processes share among them"
            raise ConfigError(f"{where}.{name}.loss", f"kind {loss.kind!r} {found}", fix="train it without torchrun")
        features = build_feature_loss(row.feature_loss, f"{where}.{name}.feature_loss")
        if team.world > 1 and row.features and features.compares_examples:
            found = f"kind {features.kind!r} compares the examples of a batch, which {team.world} processes share"
            raise ConfigError(f"{where}.{name}.feature_loss", found, fix="train it without torchrun")


def check_alike(
    rows: Mapping[str, TrainStudent], stores: Mapping[str, StoreReader], where: str, num_unlabelled: int = 0
) -> None:
    """Raises ConfigError where students can't share their batches, naming the first that differs.

    Args:
        rows: Their settings by name.
        stores: The stores that they learn from, as far as these exist already.
        where: The table that the rows are in.
        num_unlabelled: Training samples without a hard label. Students that learn from hard labels
            alone leave them out.
    """
    first = next(iter(rows))
    for name in rows:
        for key in _ALIKE:
            found, expected = attrgetter(key)(rows[name]), attrgetter(key)(rows[first])
            if found != expected:
                _refuse(f"{where}.{name}.{key}", f"{found}, but {expected} in {where}.{first}.{key}")
        if num_unlabelled and rows[name].needs_hard_labels != rows[first].needs_hard_labels:
            found = f"one of {where}.{name} and {where}.{first} is 0, and only soft labels can use unlabelled samples"
            _refuse(f"{where}.{name}.soft_weight", found)
        if {name, first} <= stores.keys() and not _have_the_same_views(stores[name], stores[first]):
            store, other = stores[name].location, stores[first].location
            _refuse(f"{where}.{name}.labels", f"{store} has other views than {other} of {where}.{first}.labels")


def _refuse(where: str, found: str) -> None:
    raise ConfigError(where, found, expected="the same in all of a group", fix="or give one of them another group")


def _have_the_same_views(one: StoreReader, other: StoreReader) -> bool:
    if one.views != other.views or one.manifest.view_numbers != other.manifest.view_numbers:
        return False
    # The partner of a mixed view depends on how the store's rows are ordered and cut into blocks.
    same_blocks = one.manifest.block_samples == other.manifest.block_samples
    return not one.views.mixes or (same_blocks and one.samples.same(other.samples))
