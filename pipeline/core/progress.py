"""Progress with the time left: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from pipeline.core.text import shown

LOG_EVERY_SECONDS = 15


@contextmanager
def progress(name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Callable[[int], object]]:
    """Gives a function to call with the number of units that have been done since the last call.

    Without a `total` there is no telling what is left.
    """
    if sys.stderr.isatty():
        scaled = total is None or total > 10_000
        with tqdm(total=total, initial=done, desc=name, unit=unit, unit_scale=scaled, leave=False) as bar:
            yield bar.update
        return
    start = said = time.monotonic()
    first = done

    def update(count: int) -> None:
        nonlocal done, said
        done += count
        now = time.monotonic()
        if now - said < LOG_EVERY_SECONDS:
            return
        if total is None:
            said = now
            say(f"{name}: {done:,} {unit}s, {(done - first) / (now - start):,.0f} a second")
        elif done < total:
            said = now
            left = (now - start) / max(done - first, 1) * (total - done)
            say(f"{name}: {done:,} of {total:,} {unit}s ({done / total:.0%}), about {left:.0f} s left")

    yield update


def say(line: str) -> None:
    """Writes one line of progress to standard error (a terminal or a log) at once."""
    print(shown(line), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Writes text, of one line or several, to standard output at once."""
    print(shown(text), flush=True)
