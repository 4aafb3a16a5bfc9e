"""prepare: raw images -> data/prepare (images, hard labels, sample ids, splits)."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from pipeline.artifacts import WORK, Scratch, say
from pipeline.config import PARAMS, STRICT, load_section
from pipeline.datasets import Split, sample_ids, split_fingerprint, split_off_validation, write_dataset
from pipeline.sources import load_source
from stages import run_stage


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Prepare:
    """The section `prepare`."""

    source: str
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: NonNegativeInt


def main(
    params: Path = PARAMS, raw: Path = Path("data/raw"), out: Path = Path("data/prepare"), work: Path = WORK
) -> None:
    settings = load_section(Prepare, "prepare", params)
    dataset = load_source(settings.source, raw)
    train_ids, test_ids = sample_ids(dataset.train_images), sample_ids(dataset.test_images)
    train_rows, val_rows = split_off_validation(
        dataset.train_hard_labels, train_ids, settings.val_fraction, settings.seed
    )
    images, hard_labels = torch.from_numpy(dataset.train_images), torch.from_numpy(dataset.train_hard_labels)
    splits = {
        name: Split(images[rows], hard_labels[rows], train_ids[rows])
        for name, rows in (("train", train_rows), ("val", val_rows))
    }
    splits["test"] = Split(torch.from_numpy(dataset.test_images), torch.from_numpy(dataset.test_hard_labels), test_ids)
    decides = {"settings": asdict(settings), "data": {name: split_fingerprint(split) for name, split in splits.items()}}
    with Scratch(out, decides, work) as scratch:
        if scratch.done:
            return
        manifest = write_dataset(scratch.output, settings.source, dataset.class_names, splits)
        scratch.publish()
    counts = ", ".join(f"{count:,} {name}" for name, count in manifest.num_samples.items())
    shape = " x ".join(map(str, manifest.image_shape))
    say(f"prepare: {settings.source}, {len(manifest.class_names)} classes, images {shape}, {counts}")
    if manifest.num_repeated_in_train or manifest.num_shared_with_test:
        say(
            f"prepare: {manifest.num_repeated_in_train} training images repeat another one, "
            f"{manifest.num_shared_with_test} test images are in the training set too"
        )


if __name__ == "__main__":
    run_stage(main)
