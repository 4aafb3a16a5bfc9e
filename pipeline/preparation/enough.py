"""Whether classes have enough images for the splits, found before any image is decoded."""

from collections.abc import Mapping
from itertools import count as count_up

from pipeline.core.errors import DataError, listed
from pipeline.preparation.order import can_hold_out
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.labels import in_order


def check_counts(counts: Mapping[tuple[str, str | None], int] | None, settings: Prepare, where: object) -> None:
    """Raises DataError where classes have too few images for the splits that are to be held out.

    All of them are named, before any image is decoded.

    Args:
        counts: Images by split and class; None where they are not known, and found out later.
    """
    there = {split for split, _ in counts or ()}
    fractions = {"test": settings.test_fraction, "val": settings.val_fraction}
    held_out = {split: fraction for split, fraction in fractions.items() if split not in there}
    trained = {label: count for (split, label), count in (counts or {}).items() if split == "train" and label}
    lacking = [label for label, count in trained.items() if not can_hold_out(count, held_out.values())]
    if lacking:
        few = [f"{label!r} ({trained[label]})" for label in in_order(lacking)]
        keys = " and ".join(f"prepare.{split}_fraction, {fraction}" for split, fraction in held_out.items())
        found = (
            f"{len(lacking):,} of {len(trained):,} classes have too few training images for {keys}: {listed(few, 80)}"
        )
        needed = next(count for count in count_up(2) if can_hold_out(count, held_out.values()))
        fix = "add images, leave these classes out, raise the fractions, or give the source these splits"
        raise DataError(where, found, expected=f"{needed} or more", fix=fix)
