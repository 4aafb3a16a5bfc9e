"""The stage `prepare`: from raw images to `data/prepare` (images, hard labels, sample ids, splits,
lists).
"""

from dataclasses import asdict
from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.progress import say
from pipeline.core.scratch import WORK, Scratch
from pipeline.preparation.assign import assign_splits, check_pool
from pipeline.preparation.contradictions import contradictions_line
from pipeline.preparation.enough import check_counts
from pipeline.preparation.filling import filled_pool
from pipeline.preparation.finish import summary, write_pool
from pipeline.preparation.listing import list_images
from pipeline.preparation.presence import check_files, check_unchanged
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import build_source
from pipeline.preparation.understood import understand


def main(
    params: Path = PARAMS, raw: Path = Path("data/raw"), out: Path = Path("data/prepare"), work: Path = WORK
) -> None:
    settings = load_section(Prepare, "prepare", params)
    source = build_source(settings.source, f"{params}: prepare.source")
    settings.check(f"{params}: prepare")
    settings.check_kind(f"{params}: prepare", source.input_kind)
    class_names = source.class_names(raw)
    files = check_files(source, settings).fingerprint
    check_counts(source, raw, settings)
    decides = {
        "settings": asdict(settings),
        "class_names": list(class_names),
        "files": files,
        "named": settings.files(),
    }
    with Scratch(out, decides, work, code=Path(__file__)) as scratch:
        if scratch.done:
            return
        # 1. Classes, splits and files as they were understood, before anything is made of them.
        listing = list_images(source, raw)
        form = listing.look.decided(settings, source, raw)
        for line in understand(source, class_names, listing, settings, form).lines():
            say(f"prepare: {line}")
        # 2. One pass over the source: every sample made ready and kept on disk.
        pool = filled_pool(scratch.folder, source, raw, class_names, form)
        # 3. The split of each image.
        check_pool(pool, settings, work)
        splits = assign_splits(pool, settings, source)
        # 4. The data set, written in the order of its rows.
        check_unchanged(source, files, pool)
        prepared = write_pool(scratch.output, pool, splits, source.kind, records=scratch.folder)
        scratch.publish()
    for told in (prepared.values, contradictions_line(out, settings.contradicting), summary(prepared, out)):
        if told:
            say(f"prepare: {told}")


if __name__ == "__main__":
    run_stage(main)
