"""The end of shared work: who finds all of it made publishes it, and clears away what others were
about to use.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.locks import DECIDES
from pipeline.core.scratch import SharedScratch
from pipeline.core.trees import drop_tree


@contextmanager
def claims_folder(scratch: SharedScratch) -> Iterator[Path]:
    """Yields the folder of claims on shared work, which goes when the work is done.

    Whatever fails once another process has published is no error: it fails for want of what that
    one has cleared away (a file, or a folder while it was being made), and the result is there.
    """
    claimed = scratch.folder.with_name(f"{scratch.name}.claims") / scratch.fingerprint[:16]
    try:
        yield claimed
    except (OSError, PipelineError):
        if scratch.has_published or not scratch.done:
            raise
    drop_tree(claimed)
    if scratch.done and not (scratch.folder / DECIDES).exists():
        drop_tree(scratch.folder)  # made again after it was cleared away
