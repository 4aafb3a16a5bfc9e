"""The stage `prepare`: from raw images to `data/prepare` (images, hard labels, sample ids, splits,
lists).
"""

from dataclasses import asdict
from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.progress import progress, say
from pipeline.core.scratch import WORK, Scratch
from pipeline.preparation.assign import assign_splits, check_pool
from pipeline.preparation.enough import check_counts
from pipeline.preparation.finish import summary, write_pool
from pipeline.preparation.listing import list_images
from pipeline.preparation.pool import Pool
from pipeline.preparation.presence import check_files, check_unchanged
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import build_source
from pipeline.preparation.understood import understand


def main(
    params: Path = PARAMS, raw: Path = Path("data/raw"), out: Path = Path("data/prepare"), work: Path = WORK
) -> None:
    settings = load_section(Prepare, "prepare", params)
    settings.check(f"{params}: prepare")
    source = build_source(settings.source, f"{params}: prepare.source")
    class_names = source.class_names(raw)
    files = check_files(source, settings).fingerprint
    check_counts(source.counts(raw), settings, f"source {source.kind!r}")
    decides = {"settings": asdict(settings), "class_names": list(class_names), "files": files}
    with Scratch(out, decides, work, code=Path(__file__)) as scratch:
        if scratch.done:
            return
        # 1. Classes, splits and files as they were understood, before anything is made of them.
        understood = understand(source, class_names, list_images(source, raw), settings)
        for line in understood.lines():
            say(f"prepare: {line}")
        # 2. One pass over the source: every image made ready and kept on disk.
        count = source.count(raw)
        pool = Pool(scratch.folder / "pool", settings.form, class_names, count)
        with progress("prepare", count, "image", pool.num_taken) as on_images:
            for taken in pool.fill(source.images(raw, pool.num_taken)):
                on_images(taken)
        # 3. The split of each image.
        check_pool(pool, settings, listing=work / "prepare.broken.tsv")
        splits = assign_splits(pool, settings)
        # 4. The data set, written in the order of its rows.
        check_unchanged(source, files, pool)
        prepared = write_pool(scratch.output, pool, splits, source.kind, records=scratch.folder)
        scratch.publish()
    say(f"prepare: {summary(prepared, out)}")


if __name__ == "__main__":
    run_stage(main)
