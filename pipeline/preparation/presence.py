"""The files of a source, looked at before any image is read; stage and doctor ask here."""

from pathlib import Path

from pipeline.core.errors import SourceError
from pipeline.preparation.pool import Pool
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.inputs import Inputs, look_at


def check_files(source: Source, settings: Prepare) -> Inputs:
    """Returns the files that a source reads, and notes how many of them are not there.

    Raises SourceError where broken images are refused and some are not there, or where none is.
    """
    inputs = look_at(source.files())
    if not inputs.missing:
        return inputs
    first, count = inputs.missing[0], len(inputs.missing)
    found = "a link to nowhere" if Path(first).is_symlink() else "no such file"
    meant = source.meant(first)
    if settings.broken == "refuse" or count == inputs.num_files:
        raise SourceError(
            repr(first),
            f"{found}; {count:,} of {inputs.num_files:,} files are not there",
            expected=f"perhaps {str(meant)!r}" if meant else "",
            fix="correct their paths, or set prepare.broken: skip in params.yaml",
        )
    source.notes.add(f"files are not there{f' (perhaps {str(meant)!r} is meant)' if meant else ''}", first, count)
    return inputs


def check_unchanged(source: Source, fingerprint: str | None, pool: Pool) -> None:
    """Raises SourceError, and clears the pool, where files have changed while they were read."""
    if source.files_fingerprint() != fingerprint:
        pool.clear()  # it may hold old images beside new ones
        raise SourceError(
            f"source {source.kind!r}",
            "its files have changed while they were read",
            fix="run the same command again when nothing writes to them any more",
        )
