"""Networks that torch can't trace: which line of theirs, and what to write instead."""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.export.libraries import ExportError, first_line
from pipeline.models import Classifier
from pipeline.models.faults import place_of

_SHAPES = logging.getLogger("torch.fx.experimental.symbolic_shapes")
_FIXES_A_SIZE = re.compile(r"eval Eq\(.*guard added|set_replacement \S+ = \d+ ")


def untraceable(error: Exception, model: Classifier, export: Callable[[], object]) -> ExportError:
    """Returns an error with the network's layer and line, where they can be found.

    A batch of a fixed size is found out only after all was traced: then another trace notes the
    code that fixed it.

    Args:
        export: Traces the network once more, to the same error.
    """
    found, fix = f"can't be traced by torch.export ({first_line(error)})", ""
    place = place_of(traceback.walk_tb(error.__traceback__), model)
    if "data-dependent" in str(error):
        fix = "choose by torch.where, and not by an `if` on values"
    if "Constraints violated" in str(error):
        found = "can't be traced: its code takes batches of one size alone"
        fix = "write x.shape[0] in place of len(x) or int(...), and no loop over the images"
        with _places_of_sizes(model) as places:
            try:
                export()
            except Exception:  # the same again
                place = next(iter(places), place)
    return ExportError(place or f"model {model.name!r}", found, fix=fix)


@contextmanager
def _places_of_sizes(model: Classifier) -> Iterator[list[str]]:
    """Yields a list to which tracing adds each place of a network's code that fixes a size.

    torch notes that in its log while that code runs.
    """
    places: list[str] = []

    class Noting(logging.Handler):
        """A handler that looks from where torch was called."""

        def emit(self, record: logging.LogRecord) -> None:
            if _FIXES_A_SIZE.search(record.getMessage()):
                frames = reversed([*traceback.walk_stack(sys._getframe())])
                places.extend(filter(None, [place_of(frames, model)]))

    before = _SHAPES.level, _SHAPES.propagate, _SHAPES.handlers
    _SHAPES.propagate, _SHAPES.handlers = False, [Noting()]
    _SHAPES.setLevel(logging.INFO)
    try:
        yield places
    finally:
        level, _SHAPES.propagate, _SHAPES.handlers = before
        _SHAPES.setLevel(level)
