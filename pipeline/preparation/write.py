"""A data set written from splits in memory, and the manifest of any."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.core.sealed import write_sealed
from pipeline.data.hard_labels import is_labelled
from pipeline.data.input_kinds import IMAGE, InputKind
from pipeline.data.manifest import DatasetManifest
from pipeline.data.splits import SplitInMemory
from pipeline.preparation.split_files import SplitFiles, SplitRows
from pipeline.preparation.statistics import channel_statistics


class InputFacts(NamedTuple):
    """The facts that a manifest states about the inputs of a data set, as `DatasetManifest` has
    them: the shape of a sample, means and deviations of images, and `input` of others.
    """

    shape: list[int]
    mean: list[float]
    std: list[float]
    facts: dict[str, Any] | None = None


def write_dataset(
    folder: Path,
    source: str,
    class_names: Sequence[str],
    splits: Mapping[str, SplitInMemory],
    facts: dict[str, Any] | None = None,
) -> DatasetManifest:
    """Writes splits that are in memory, and their manifest, to `folder`.

    Args:
        facts: What is stated about samples that are no images; files beside them are the caller's.
    """
    rows = {name: rows_of(split) for name, split in splits.items()}
    inputs = splits["train"].inputs.numpy()
    mean, std = channel_statistics(inputs) if facts is None else ([], [])
    manifest = dataset_manifest(source, class_names, InputFacts(list(inputs.shape[1:]), mean, std, facts), rows)
    for name, split in rows.items():
        write_split(folder / f"{name}.zarr", split, manifest.image_shape, kind=manifest.kind)
    write_sealed(folder / "manifest.json", manifest.to_dict())
    return manifest


def rows_of(split: SplitInMemory) -> SplitRows:
    """Returns the rows of a split that is in memory."""
    images, labels = split.inputs.numpy(), split.hard_labels.numpy()
    maps = (lambda: iter([labels])) if labels.ndim == 3 else None
    return SplitRows(labels, split.sample_ids, None, lambda some: iter([images[some]]), maps)


def dataset_manifest(
    source: str,
    class_names: Sequence[str],
    inputs: InputFacts,
    splits: Mapping[str, SplitRows],
    num_skipped: int = 0,
) -> DatasetManifest:
    """Returns the manifest of a data set of these splits."""
    train, val, test = (splits[name].sample_ids for name in ("train", "val", "test"))
    seen = np.unique(np.concatenate([train, val]))
    return DatasetManifest(
        source=source,
        class_names=list(class_names),
        image_shape=inputs.shape,
        mean=inputs.mean,
        std=inputs.std,
        num_samples={name: len(rows) for name, rows in splits.items()},
        fingerprints={name: rows.fingerprint for name, rows in splits.items()},
        num_repeated_in_train=len(train) + len(val) - len(seen),
        num_shared_with_test=int(np.isin(test, seen).sum()),
        num_shared_with_val=int(np.isin(val, train).sum()),
        num_unlabelled=int((~is_labelled(splits["train"].hard_labels)).sum()),
        num_skipped=num_skipped,
        storage="pixels" if splits["train"].sizes is None else "encoded",
        signal=splits["train"].signal,
        input=inputs.facts,
    )


def write_split(path: Path, rows: SplitRows, image_shape: Sequence[int], kind: InputKind = IMAGE) -> None:
    """Writes a split, a file at a time."""
    files = SplitFiles(path, rows, image_shape, kind)
    files.create()
    for number in range(len(files)):
        files.write(number)
    files.finish()
