"""repair_labels: finds the broken blocks of every store, has the teacher label just these again, and puts them in place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline.core.command import run_stage
from pipeline.core.errors import StoreError
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.data.sample_ids import find_samples
from pipeline.data.splits import SplitOnDisk
from pipeline.labelling.teacher import Teacher
from pipeline.labelling.verify import repair_block
from pipeline.labels.canaries import check_canaries
from pipeline.labels.manifest import Block
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.saved import model_fingerprint


def main(
    stores: Annotated[list[Path] | None, typer.Argument(help="Stores; by default all in data/dump_labels.")] = None,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the teacher sees at once.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    paths = stores or sorted(Path("data/dump_labels").glob("*.zarr"))
    broken = {path: _broken(path) for path in paths}
    if not any(broken.values()):
        say(f"repair_labels: nothing is broken in {', '.join(map(str, paths)) or 'data/dump_labels'}")
        return
    where = choose_device(device)
    split = ImageDataset(data).stream("train")
    at_work = Teacher.read(teacher, where, batch_size)
    for path, blocks in broken.items():
        if blocks:
            _repair(StoreReader(path), blocks, at_work, split, model_fingerprint(teacher))


def _broken(path: Path) -> list[Block]:
    """The blocks that can't be read; raises StoreError where more than blocks is damaged."""
    store = StoreReader(path)
    store.check_whole()
    return [block for block, fault in store.check() if fault]


def _repair(
    store: StoreReader, blocks: Sequence[Block], teacher: Teacher, split: SplitOnDisk, teacher_now: str
) -> None:
    stored = (store.manifest.teacher or {}).get("fingerprint")
    if stored != teacher_now:
        expected = f"the teacher that wrote it, {stored}" if stored else "a store of one teacher"
        fix = "make it again from the stores that it was made of" if stored is None else "run `dvc repro dump_labels`"
        raise StoreError(store.location, f"can't be repaired by teacher {teacher_now}", expected=expected, fix=fix)
    check_canaries(store.canaries, split, store.views, store.location, store.row_order)
    ids = store.sample_ids
    for block in blocks:
        lost = int((find_samples(ids[np.array(block.rows)], split.sample_ids) < 0).sum())
        if lost:
            found = f"block {block.name} is of {lost} images that are not in this data"
            raise StoreError(store.location, found, expected="the data that it was dumped for")
        same = repair_block(teacher, split, store, block)
        how = (
            "bit for bit as it was"
            if same
            else "not bit for bit as it was (other hardware or libraries); its digest follows"
        )
        say(f"repair_labels: {store.location}: block {block.name} is whole again, {how}")


if __name__ == "__main__":
    run_stage(main)
