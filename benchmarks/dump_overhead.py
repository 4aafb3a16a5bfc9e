"""Dumping labels (views, teacher, all encodings, checksums, fidelity, disk) against the teacher's bare forward pass."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.measure import in_turn, need_data, report
from pipeline.canaries import make_canaries
from pipeline.config import load_section
from pipeline.datasets import ImageDataset
from pipeline.devices import choose_device
from pipeline.errors import DataError
from pipeline.labelling import Target, Teacher, dump_labels
from pipeline.manifest import Block
from pipeline.model_files import read_model
from pipeline.sections.dump_labels import DumpLabels
from pipeline.store import StoreReader
from pipeline.store_writer import StoreWriter

ROUNDS = 5
LABELS = 8192  # the default block


def main() -> None:
    need_data()
    settings = load_section(DumpLabels, "dump_labels")
    device = choose_device(settings.device)
    split = ImageDataset(Path("data/prepare")).split("train")
    if len(split) * settings.num_views < LABELS * (ROUNDS + 2):
        raise DataError("data/prepare", f"{len(split)} training images", expected=f"more, for blocks of {LABELS}")
    model = read_model(Path("data/train_teacher"), made_by="train_teacher").to(device)
    teacher = Teacher(model, device, settings.batch_size)
    canaries = make_canaries(split, settings.views, range(settings.num_views), settings.num_canaries)
    images = torch.randint(0, 256, (LABELS, *split.images.shape[1:]), dtype=torch.uint8, device=device)
    with TemporaryDirectory() as folder:
        targets = []
        for path in sorted(Path("data/dump_labels").glob("*.zarr")):
            store = StoreReader(path)
            manifest = replace(store.manifest, block_samples=LABELS, complete=False)
            copy, records = Path(folder) / path.name, Path(folder) / path.stem
            writer = StoreWriter(copy, records, manifest, split.sample_ids, canaries, store.tables)
            targets.append(Target(writer))
        starts = range(0, len(split) - LABELS + 1, LABELS)
        blocks = iter([Block(view, view, range(s, s + LABELS)) for view in range(settings.num_views) for s in starts])

        def dump() -> None:
            dump_labels(teacher, split, settings.views, [next(blocks)], targets, lambda _: None)

        def forward() -> None:
            with torch.inference_mode():
                for batch in images.split(settings.batch_size):
                    model(batch).cpu()

        dumped, bare, ratio = in_turn(dump, forward, ROUNDS)
    pilot = min(settings.pilot_labels, settings.num_views * len(split))
    rows = [
        {
            "stores": len(targets),
            "dump labels/s": LABELS / dumped,
            "forward images/s": LABELS / bare,
            "share of the bare speed": 1 / ratio,
            "with the pilot": settings.num_views * len(split) / (settings.num_views * len(split) * ratio + pilot),
        }
    ]
    report(
        "dump_overhead",
        f"all stores in one pass against the forward pass alone, median of {ROUNDS} pairs of {LABELS} labels",
        rows,
    )


if __name__ == "__main__":
    main()
