"""The lines that `make new` prints: what was found, what was chosen and why, what to do next."""

from collections.abc import Iterator

from pipeline.doctor.fitting import Fitted
from pipeline.doctor.inputs import INPUTS
from pipeline.doctor.new_project import Created
from pipeline.doctor.reporting import duration

_MOST_CLASSES = 8  # that are shown by name, so that all lines fit one screen


def announce(created: Created) -> Iterator[str]:
    """Yields the lines about a new project."""
    fitted, target = created.fitted, created.target
    if created.begun:
        params, found = created.begun
        yield f"Found at {created.row['path']}:"
        yield from (f"  {line}" for line in found)
        yield f"Settings: those of {params}, which is an example; make doctor says how long a run takes here"
    elif isinstance(fitted, Fitted):
        yield f"Found at {created.row.get('path', created.row['kind'])}:"
        yield from (f"  {line}" for line in fitted.found.lines(_MOST_CLASSES))
        yield "Chosen for these images (each setting stands in params.yaml with its reason):"
        yield from (f"  {line}" for line in _times(fitted))
        yield from (f"  {choice.line}" for choice in fitted.choices)
    elif fitted:
        others = ", ".join(f"INPUT={name}" for name in INPUTS if name != "image")
        yield f"warning: settings are not fitted: {fitted}"
        yield "  params.yaml has the defaults, made for Fashion-MNIST (54,000 training images, 28 x 28 pixels);"
        yield f"  to have others, delete {target} and run the command again with images that can be read"
        yield f"  (samples of another kind: {others})"
    else:
        yield "Settings: the defaults, which were made for Fashion-MNIST"
    yield from (f"  {choice.line}" for choice in created.task)
    more = "docs/inputs.md" if created.begun else "docs/own-data.md"
    yield f"Next, in {target} ({more} there has more):"
    yield "  1. make doctor   installs into .venv first (about 6 GB), then checks images, settings, networks, disk and time"
    yield "  2. params.yaml   is yours to change: the teacher (train_teacher), the students"
    yield "  3. make repro    runs everything, up to reports/report.html; stopped, it goes on by the same command"


def _times(fitted: Fitted) -> Iterator[str]:
    whole, asked = duration(fitted.seconds), f"{fitted.minutes:g} min were asked for"
    if fitted.seconds <= 60 * fitted.minutes:
        yield f"time: {whole} for a whole run on this machine; {asked}"
    else:
        fix = "allow more minutes, or delete students from params.yaml"
        yield f"warning: a whole run takes {whole} or more on this machine, and {asked}: {fix}"
    if fitted.busy:
        yield f"time: {fitted.busy}"
