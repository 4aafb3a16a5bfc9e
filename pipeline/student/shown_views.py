"""The view that a student sees in an epoch, and the stored label beside it."""

from collections.abc import Sequence
from itertools import count, islice

from pipeline.student.settings import TrainStudent
from pipeline.views.spec import ViewSpec

FEW_VIEWS, MANY_EPOCHS = 2, 6  # stored views, and epochs for each of them: docs/benchmarks.md


def shown_view(stored: Sequence[int], epoch: int, *, new_views: bool) -> tuple[int, int]:
    """Returns the index of the stored view whose labels an epoch reads, and the view that it shows.

    Stored views come in turn. With `new_views`, each epoch beyond them shows the next view number
    that none of them has.

    >>> [shown_view([0, 3], epoch, new_views=True) for epoch in range(6)]
    [(0, 0), (1, 3), (0, 1), (1, 2), (0, 4), (1, 5)]
    >>> [shown_view([0, 3], epoch, new_views=False) for epoch in range(4)]
    [(0, 0), (1, 3), (0, 0), (1, 3)]
    """
    index, beyond = epoch % len(stored), epoch - len(stored)
    if not new_views or beyond < 0:
        return index, stored[index]
    others = (number for number in count() if number not in stored)
    return index, next(islice(others, beyond, None))


def views_line(row: TrainStudent, views: ViewSpec, num_stored: int) -> str | None:
    """Returns a line where a student's `new_views` changes nothing or would serve; else None.

    Args:
        views: The settings of the store's views.
        num_stored: The number of views in the store.
    """
    if row.soft_weight == 0:
        return None
    epochs, stored = row.fit.epochs, f"{num_stored} stored view{'s' * (num_stored > 1)}"
    if row.new_views and not views.operations:
        return "new_views: true changes nothing: the views of its store are the inputs as they are"
    if row.new_views and epochs <= num_stored:
        return f"new_views: true changes nothing: {epochs} of {epochs} epochs have a stored view"
    is_few = num_stored <= FEW_VIEWS and epochs >= MANY_EPOCHS * num_stored
    if is_few and views.operations and not views.mixes and not row.new_views:
        return f"{epochs} epochs show {stored} again and again; new_views: true is likely better"
    return None
