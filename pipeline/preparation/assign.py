"""The split of every image in a pool: the source's own, or held out of the training images."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped

from pipeline.core.errors import DataError
from pipeline.core.progress import say
from pipeline.data.hard_labels import is_labelled
from pipeline.preparation.contradictions import CONTRADICTIONS, contradicting
from pipeline.preparation.groups import group_names, hold_out_groups
from pipeline.preparation.lists import write_broken, write_contradictions
from pipeline.preparation.order import Names, hold_out
from pipeline.preparation.pool import Pool
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.split_names import SPLITS

PoolSplits = Mapping[str, Int64[np.ndarray, " images"]]  # the pool's images by split, in the order of its rows


def check_pool(pool: Pool, settings: Prepare, work: Path) -> None:
    """Raises DataError when there is nothing to train on, or when broken images or contradicting
    labels are to be refused.

    Args:
        work: The folder for lists of images that are refused.
    """
    listing, things = work / "prepare.broken.tsv", pool.form.kind.things
    broken = next(pool.broken(), None)
    if broken and settings.broken == "refuse":
        count = write_broken(listing, pool)
        found = f"{broken.reason}; {count:,} of {pool.num_taken:,} {things} are broken, listed in {listing}"
        pool.clear()  # or the next run would not look at the fixed ones again
        raise DataError(broken.key, found, fix="fix or remove them, or set prepare.broken: skip in params.yaml")
    where = f"source {settings.source['kind']!r}"
    if pool.image_shape is None:
        found = f"none of its {pool.num_taken:,} {things} can be decoded" if broken else f"no {things}"
        raise DataError(where, found, expected=things, fix="look at prepare.source in params.yaml")
    if settings.contradicting == "refuse":
        _check_contradictions(pool, work / f"prepare.{CONTRADICTIONS}")
    labels = pool.column("hard_labels")
    if not is_labelled(labels).any():
        raise DataError(where, f"all {len(labels):,} {things} are unlabelled", expected="a class for some of them")


def _check_contradictions(pool: Pool, listing: Path) -> None:
    if not len(some := contradictory(pool)):
        return
    rows = write_contradictions(listing, pool, some)
    sample_id, name, key = rows[0]
    if pool.has_maps:
        found, expected = f"{rows[1][2]} is the same image with another mask", "one mask for an image"
    else:
        other = next(row for row in rows if row[0] == sample_id and row[1] != name)
        found = f"class {name!r}, and {other[2]} is equal to it, in {other[1]!r}"
        expected = "one class for all that are equal"
    pool.clear()  # or the next run would not look at the corrected ones again
    fix = f"look at {listing}, or set prepare.contradicting: drop or keep"
    raise DataError(key, f"{found}; {len(some):,} {pool.form.kind.things} like these", expected=expected, fix=fix)


def contradictory(pool: Pool) -> Int64[np.ndarray, " images"]:
    """Returns the images whose labels contradict each other, in the order of rows."""
    mask = contradicting(pool.column("sample_ids"), pool.opinions())
    order = pool.order() if mask.any() else np.empty(0, np.int64)  # a sort of all
    some: Int64[np.ndarray, " images"] = order[mask[order]]
    return some


def assign_splits(pool: Pool, settings: Prepare, source: Source) -> PoolSplits:
    """Returns the pool's images by split, in the order of their rows.

    Raises:
        DataError: An image of `val` or `test` is unlabelled, or no training image is of its class;
            the source's own splits share a group.
    """
    given, labels, ids = (pool.column("splits"), pool.column("hard_labels"), pool.column("sample_ids"))
    # 1. The splits that the source names, each in the order of its rows, less what is dropped.
    order = pool.order()
    if settings.contradicting == "drop":
        order = order[~contradicting(ids, pool.opinions())[order]]
    splits = {name: order[given[order] == number] for number, name in enumerate(SPLITS)}
    for name in ("val", "test"):
        for key in pool.keys(splits[name][~is_labelled(labels[splits[name]])][:1]):
            raise DataError(key, f"unlabelled, in the split {name}", expected="a class", fix="take it to train")
    # 2. A split that the source does not have is held out of `train`: first `test`, then `val` of
    # what is left.
    groups = _Groups.of(pool, order, settings, source)
    names = Names(pool.numbering.class_names, pool.form.kind.things)
    for name, fraction in (("test", settings.test_fraction), ("val", settings.val_fraction)):
        if len(splits[name]) == 0:
            train = splits["train"]
            if groups is None:
                out = hold_out(name, labels[train], ids[train], fraction, settings.seed, names)
            else:
                may_be = is_labelled(labels[train])
                out = hold_out_groups(name, groups.names_of(train), ids[train], may_be, fraction, settings.seed)
            splits[name], splits["train"] = train[out], train[~out]
    if groups is not None:
        groups.check(splits)
    # 3. Nothing is measured on a class that no training image is of.
    _check_classes(pool, splits)
    return splits


class _Groups(NamedTuple):
    """The name of the group of each image, by its place in the pool."""

    names: Shaped[np.ndarray, " images"]

    @classmethod
    def of(cls, pool: Pool, order: np.ndarray, settings: Prepare, source: Source) -> "_Groups | None":
        """Returns the groups; None where each image is one of its own."""
        if settings.group_pattern is None and source.group_of("") is None:
            return None
        found = group_names(pool.keys(order), settings.group_pattern, source)
        assert found is not None, "there are some"
        names = np.full(int(order.max(initial=-1)) + 1, "", dtype=object)
        names[order] = found
        return cls(names)

    def names_of(self, some: Int64[np.ndarray, " some"]) -> list[str]:
        """Returns the names of the groups of some images."""
        return [str(name) for name in self.names[some]]

    def check(self, splits: PoolSplits) -> None:
        """Tells how many groups each split has; raises DataError where two share one."""
        found = {name: set(self.names_of(rows)) for name, rows in splits.items()}
        for one, other in combinations(found, 2):
            if shared := sorted(found[one] & found[other]):
                fix = "give the source splits of whole groups, or none"
                raise DataError(f"group {shared[0]!r}", f"in {one} and in {other}", expected="one split", fix=fix)
        counts = ", ".join(f"{len(names):,} {split}" for split, names in found.items())
        say(f"prepare: groups: {counts}; no group is in two splits")


def _check_classes(pool: Pool, splits: PoolSplits) -> None:
    labels = pool.column("hard_labels")
    things = pool.form.kind.things
    counts = {name: pool.numbering.counts(labels[rows]) for name, rows in splits.items()}
    for name in ("val", "test"):
        if pool.numbering.signal == "categorical":
            _check_known(pool, labels, splits[name], counts["train"], name)
        else:
            _tell_lacking(pool, counts[name], f"{name} {things}")
    _tell_lacking(pool, counts["train"], things if pool.numbering.signal == "categorical" else f"training {things}")


def _check_known(pool: Pool, labels: np.ndarray, rows: np.ndarray, known: Mapping[str | None, int], name: str) -> None:
    """Raises DataError for an image of a class that no training image is of."""
    names = pool.numbering.class_names
    numbers = [number for number, each in enumerate(names) if each in known]
    foreign = rows[~np.isin(labels[rows], numbers)][:1]
    for key in pool.keys(foreign):
        found = f"class {names[labels[foreign[0]]]!r} is in {name}, but no training {pool.form.kind.thing} is of it"
        raise DataError(key, found, fix="add some to train, or take it out")


def _tell_lacking(pool: Pool, counts: Mapping[str | None, int], what: str) -> None:
    if lacking := [name for name in pool.numbering.class_names if name not in counts]:
        say(f"prepare: no {what} of {len(lacking)} classes, the first: {lacking[0]!r}")
