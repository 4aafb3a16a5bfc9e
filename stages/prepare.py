"""The stage `prepare`: from raw images to `data/prepare` (images, hard labels, sample ids, splits,
lists).

Any number of processes may run it at once (a SLURM array, a Kubernetes indexed job, torchrun, or by
hand with `--worker i/n`): they share one folder and its pieces, and the first one that finds all of
them there publishes.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.progress import progress, say
from pipeline.core.scratch import WORK, SharedScratch
from pipeline.preparation.assign import PoolSplits, assign_splits, check_pool
from pipeline.preparation.contradictions import contradictions_line
from pipeline.preparation.enough import check_counts
from pipeline.preparation.filling import Filling
from pipeline.preparation.finish import finish_dataset, summary
from pipeline.preparation.helpers import Helpers
from pipeline.preparation.listing import list_images
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.parts import parts_of, training_levels
from pipeline.preparation.pool import Pool
from pipeline.preparation.presence import check_files, check_unchanged
from pipeline.preparation.settings import Prepare
from pipeline.preparation.site import Site
from pipeline.preparation.sources import build_source
from pipeline.preparation.split_files import files_of_splits
from pipeline.preparation.together import filled_pool, write_parts
from pipeline.preparation.understood import understand
from pipeline.sharing.ending import claims_folder
from pipeline.sharing.workers import this_worker


def main(
    params: Path = PARAMS,
    raw: Path = Path("data/raw"),
    out: Path = Path("data/prepare"),
    work: Path = WORK,
    worker: Annotated[str | None, typer.Option(help="i/n: this process is worker i of n that share `work`.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="The most that it uses; by itself one a core.")] = None,
) -> None:
    settings = load_section(Prepare, "prepare", params)
    me = this_worker(worker, os.environ)
    source = build_source(settings.source, f"{params}: prepare.source")
    settings.check(f"{params}: prepare")
    settings.check_kind(f"{params}: prepare", source.input_kind)
    class_names = source.class_names(raw)
    with Helpers(source.count(raw), processes) as helpers:
        inputs = check_files(source, settings)
        helpers.expect(inputs.num_bytes)
        check_counts(source, raw, settings)
        decides = {
            "settings": asdict(settings),
            "class_names": list(class_names),
            "files": inputs.fingerprint,
            "named": settings.files(),
        }
        prepared = None
        with SharedScratch(out, decides, work, code=Path(__file__)) as scratch, claims_folder(scratch) as claimed:
            if not scratch.done:
                # 1. Classes, splits and files as they were understood, before anything is made of
                # them.
                listing = list_images(source, raw)
                form = listing.look.decided(settings, source, raw)
                for line in understand(source, class_names, listing, settings, form).lines():
                    say(f"prepare: {line}")
                site = Site(scratch.folder, claimed, me)
                filling = Filling(site, source, raw, Numbering(class_names, source.signal), form)
                helpers.help_with(filling, scratch.output)

                def assign(pool: Pool) -> PoolSplits:
                    check_pool(pool, settings, work)
                    splits = assign_splits(pool, settings, source)
                    check_unchanged(source, inputs.fingerprint, pool)
                    return splits

                # 2. One pass over the source: every sample made ready and kept on disk. Then the
                # split of each.
                with progress(f"prepare{me.name}", source.count(raw), form.kind.thing) as on_samples:
                    pool, splits = filled_pool(filling, scratch.output, assign, helpers.watched(on_samples))
                # 3. The inputs, written in the order of their rows, and all that is long.
                files = files_of_splits(scratch.output, pool, splits)
                parts = parts_of(site, scratch.output, pool, splits, files)
                with progress(f"prepare{me.name}, splits", len(parts), "file") as on_parts:
                    write_parts(site, parts, on_parts)
                helpers.end()  # or a late one would look for what is about to be cleared away
                # 4. The rest of the data set.
                with site.claims.hold("finish"):
                    if not scratch.done:
                        scratch.sweep()
                        levels = training_levels(site, pool)
                        prepared = finish_dataset(scratch.output, pool, splits, files, levels, source.kind)
                        scratch.publish()
    if prepared is None:
        return
    contradictions = contradictions_line(out, settings.contradicting, form.kind.things)
    for told in (prepared.values, contradictions, summary(prepared, out)):
        if told:
            say(f"prepare: {told}")


if __name__ == "__main__":
    run_stage(main)
