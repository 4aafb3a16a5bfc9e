"""repair_labels: finds the broken blocks of every store, has the teacher label just these again,
and puts them in place, in DVC's cache, too. Stores may lie in a bucket.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.command import run_stage
from pipeline.core.progress import say
from pipeline.data.dataset import ImageDataset
from pipeline.doctor.outputs import Repair
from pipeline.labelling.repair import broken_blocks, repair_store
from pipeline.labelling.teacher import Teacher
from pipeline.labels.reader import StoreReader
from pipeline.models.devices import choose_device
from pipeline.models.saved import model_fingerprint


def main(
    stores: Annotated[
        list[str] | None, typer.Argument(help="Stores, by path or URL; by default all in data/dump_labels.")
    ] = None,
    data: Path = Path("data/prepare"),
    teacher: Path = Path("data/train_teacher"),
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the teacher sees at once.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    places = stores or sorted(map(str, Path("data/dump_labels").glob("*.zarr")))
    broken = {place: blocks for place in places if (blocks := broken_blocks(place))}
    if not broken:
        say(f"repair_labels: nothing is broken in {', '.join(map(str, places)) or 'data/dump_labels'}")
        return
    where = choose_device(device)
    split = ImageDataset(data).stream("train")
    at_work = Teacher.read(teacher, where, batch_size)
    for place, blocks in broken.items():
        store = StoreReader(place)
        for block, same in repair_store(store, blocks, at_work, split, model_fingerprint(teacher)):
            how = (
                "bit for bit as it was"
                if same
                else "not bit for bit as it was (other hardware or libraries); its digest follows"
            )
            say(f"repair_labels: {store.location}: block {block.name} is whole again, {how}")
    if Path(".dvc").is_dir():  # or the next checkout would bring the damage back from DVC's cache
        for line in Repair().run():
            say(line)


if __name__ == "__main__":
    run_stage(main)
