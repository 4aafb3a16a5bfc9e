"""A pool filled with all images of a source, in one form that holds every one of them.

The form that a look at some images found is taken first. Where an image asks for a wider one
(colour among grey, more bits), all begins again in that: so the form depends on all images, and a
second pass is paid only where the look did not see it.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.core.files import read_json, write_json
from pipeline.core.progress import progress, say
from pipeline.preparation.form import Form
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.pool import Pool, WiderImageError
from pipeline.preparation.sources.base import Source


def filled_pool(folder: Path, source: Source, raw: Path, class_names: Sequence[str], form: Form) -> Pool:
    """Returns the pool with all images; a killed run goes on in the form that it had.

    Args:
        folder: Where the pool lies, and the record of its form.
        form: The one that was found.
    """
    record, numbering = folder / "form.json", Numbering(class_names, source.signal)
    if record.exists():
        form = form.with_found(read_json(record, made_by="prepare"))
    while True:
        write_json(record, form.found())
        pool = Pool(folder / "pool", form, numbering, source.count(raw))
        try:
            _fill(pool, source, raw)
        except WiderImageError as found:
            say(f"prepare: {found}; beginning again, so that all images are alike")
            pool.clear()  # before the record is written: no block may be of another form
            form = found.form
        else:
            return pool


def _fill(pool: Pool, source: Source, raw: Path) -> None:
    count = source.count(raw)
    with progress("prepare", count, pool.form.kind.thing, pool.num_taken) as on_images:
        for taken in pool.fill(source.images(raw, pool.num_taken)):
            on_images(taken)
