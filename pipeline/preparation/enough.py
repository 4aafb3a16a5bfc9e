"""Whether classes have enough images for the splits, found before any image is decoded."""

from collections.abc import Mapping
from itertools import count as count_up
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import DataError, listed
from pipeline.data.input_kinds import INPUT_KINDS
from pipeline.preparation.order import can_hold_out
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.labels import in_order


class Place(NamedTuple):
    """A source, and what its samples are called, for messages."""

    where: str
    things: str


def check_counts(source: Source, raw: Path, settings: Prepare) -> None:
    """Raises DataError where classes have too few images for the splits that are to be held out.

    All of them are named, before any image is decoded. Where counts are not known, they are found
    out later. Where an image has several classes, a rare one may be in one split alone, so only all
    labelled images together must be enough. Where groups are held out, they need not be of each
    class.
    """
    if settings.group_pattern is not None:
        return
    counts, where = source.counts(raw) or {}, f"source {source.kind!r}"
    things = INPUT_KINDS[source.input_kind].things
    there = {split for split, _ in counts} | set(source.split_sizes(raw) or ())
    fractions = {"test": settings.test_fraction, "val": settings.val_fraction}
    held_out = {split: fraction for split, fraction in fractions.items() if split not in there}
    if source.signal != "categorical":
        _check_labelled((source.split_sizes(raw) or {}).get("train"), counts, held_out, Place(where, things))
        return
    trained = {label: count for (split, label), count in counts.items() if split == "train" and label}
    lacking = [label for label, count in trained.items() if not can_hold_out(count, held_out.values())]
    if lacking:
        few = [f"{label!r} ({trained[label]})" for label in in_order(lacking)]
        keys = " and ".join(f"prepare.{split}_fraction, {fraction}" for split, fraction in held_out.items())
        found = (
            f"{len(lacking):,} of {len(trained):,} classes have too few training {things} for {keys}: {listed(few, 80)}"
        )
        needed = next(count for count in count_up(2) if can_hold_out(count, held_out.values()))
        fix = f"add {things}, leave these classes out, raise the fractions, or give the source these splits"
        raise DataError(where, found, expected=f"{needed} or more", fix=fix)


def _check_labelled(
    trained: int | None, counts: Mapping[tuple[str, str | None], int], held_out: Mapping[str, float], place: Place
) -> None:
    labelled = None if trained is None else trained - counts.get(("train", None), 0)
    if labelled is not None and not can_hold_out(labelled, held_out.values()):
        keys = " and ".join(f"prepare.{split}_fraction, {fraction}" for split, fraction in held_out.items())
        fix = f"add {place.things}, raise the fractions, or give the source these splits"
        raise DataError(place.where, f"{labelled:,} labelled training {place.things} are too few for {keys}", fix=fix)
