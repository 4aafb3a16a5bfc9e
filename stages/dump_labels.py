"""dump_labels: teacher + data/prepare -> data/dump_labels/<encoding>.zarr, every encoding in one
teacher pass.

Any number of processes may run it at once (torchrun, a SLURM array, a Kubernetes indexed job, or by
hand with `--worker i/n`): they share one folder and its blocks, and the first one that finds all of
them there publishes. With `--to`, the folder is one in an object store, or one without locks."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.errors import ConfigError
from pipeline.core.progress import say
from pipeline.core.scratch import SharedScratch, with_code
from pipeline.data.auto_budget import settle
from pipeline.data.budget import MemoryBudget
from pipeline.data.dataset import ImageDataset
from pipeline.data.opening import open_for_blocks
from pipeline.labelling.at_once import lowered_blocks, samples_of_block
from pipeline.labelling.remote_site import RemoteSite
from pipeline.labelling.run import work_on_dump
from pipeline.labelling.settings import DumpLabels
from pipeline.labelling.site import DumpSite, Site
from pipeline.labelling.stores import fitting_encodings, plan_dump
from pipeline.labelling.teacher import Teacher, check_teacher, embedding_size, teacher_precision
from pipeline.labelling.temporary import temporary_folder
from pipeline.labels.encodings import encodings_of, read_encodings
from pipeline.models.compilers import check_compiler
from pipeline.models.devices import choose_device
from pipeline.models.saved import read_meta
from pipeline.sharing.claims import Claims
from pipeline.sharing.ending import claims_folder
from pipeline.sharing.workers import this_worker


def main(
    params: Path = PARAMS,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    out: Path = Path("data/dump_labels"),
    work: Path = Path("work"),
    worker: Annotated[str | None, typer.Option(help="i/n: this process is worker i of n that share `work`.")] = None,
    grow: Annotated[Path | None, typer.Option(help="A folder of finished stores whose labels are taken over.")] = None,
    to: Annotated[
        str | None, typer.Option(help="Where to write instead: s3://, gs://, az:// or a folder without locks.")
    ] = None,
) -> None:
    # 1. The settings, and where this process runs.
    if to is not None and grow is not None:
        raise ConfigError("--grow", "given beside --to", expected="one of them", fix="grow the stores on a disk")
    settings = load_section(DumpLabels, "dump_labels", params)
    settings.check(f"{params}: dump_labels")
    rows = read_encodings(params)
    me = this_worker(worker, os.environ)
    device = choose_device(settings.device, me.local_index)
    if settings.compile:
        check_compiler(device, f"{params}: dump_labels.compile")
    # 2. The inputs, and the stores to be written.
    dataset = ImageDataset(data)
    manifest = dataset.manifest
    settings.views.check(manifest.image_shape, f"{params}: dump_labels.views", manifest.kind)
    if manifest.input is not None:  # of images the shape and the classes decide, and the network checks these
        read_meta(teacher, made_by="train_teacher").check_data(manifest, teacher, "train_teacher")
    space = settings.space_of(dataset.manifest)
    dimensions = embedding_size(teacher) if any(row.is_of_embeddings for row in encodings_of(rows).values()) else None
    if dimensions is not None and settings.compile:
        found, fix = "true, and a row of encodings is of embeddings", "which compiled code does not give"
        raise ConfigError(f"{params}: dump_labels.compile", found, expected="false", fix=fix)
    rows = fitting_encodings(rows, space, params, dimensions)
    precision = teacher_precision(teacher, device, settings.precision)
    if note := lowered_blocks(space, settings.block_samples, dataset.manifest.num_samples["train"]):
        say(note)
    plan = plan_dump(settings, rows, dataset, teacher, precision, dimensions)
    where = f"{params}: dump_labels.memory_budget_mb"
    budget = MemoryBudget.of_megabytes(settle(settings.memory_budget_mb, where), settings.batch_size, where)
    # 3. The labels.
    decides = plan.decides | {"device": device.type}

    def work_at(site: Site) -> None:
        at_work = Teacher.read(teacher, device, settings.batch_size, settings.precision)
        split = open_for_blocks(dataset, budget, samples_of_block(space, settings.block_samples))
        check_teacher(at_work, teacher, split)
        if settings.compile:
            at_work.model.compile()
        work_on_dump(site, plan, split, at_work)

    if to is not None:
        with temporary_folder() as here:
            remote = RemoteSite(to, here, with_code(decides, Path(__file__)), list(plan.manifests), me)
            if remote.done:
                say(f"{remote.place} has the stores already, finished and for these settings; nothing to do")
            else:
                work_at(remote)
            remote.clear()
        return
    with SharedScratch(out, decides, work, code=Path(__file__)) as scratch, claims_folder(scratch) as claimed:
        if not scratch.done:
            work_at(DumpSite(scratch, Claims(claimed, lambda: scratch.done), me, grow))


if __name__ == "__main__":
    run_stage(main)
