"""A pool written as a data set: splits, lists, manifest, and a line that sums it up."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pipeline.core.sealed import write_sealed
from pipeline.data.hard_labels import is_labelled
from pipeline.data.input_kinds import IMAGE
from pipeline.data.manifest import DatasetManifest
from pipeline.preparation.assign import PoolSplits, contradictory
from pipeline.preparation.contradictions import CONTRADICTIONS
from pipeline.preparation.lists import write_broken, write_contradictions, write_duplicates
from pipeline.preparation.pool import Pool
from pipeline.preparation.split_files import SplitFiles, SplitRows
from pipeline.preparation.statistics import statistics_of, values_line
from pipeline.preparation.write import InputFacts, dataset_manifest

Levels = Int64[np.ndarray, "channels 256"]


@dataclass(frozen=True)
class Prepared:
    """A data set that was written, the number of samples in its list of duplicates, a line about
    the values of its pixels and, where classes are independent, their mean number an image.
    """

    manifest: DatasetManifest
    num_duplicates: int
    values: str
    classes_an_image: float | None = None


def finish_dataset(
    folder: Path, pool: Pool, splits: PoolSplits, files: Mapping[str, SplitFiles], levels: Levels, source: str
) -> Prepared:
    """Writes everything beside the parts that processes share, which are in `folder`.

    Args:
        levels: The number of times that each pixel level is in the training images.
        source: The kind of the source, for the manifest.
    """
    rows = {name: split.rows for name, split in files.items()}
    # 1. The lists that are usually short.
    num_broken = write_broken(folder / "broken.tsv", pool)
    if len(some := contradictory(pool)):
        write_contradictions(folder / CONTRADICTIONS, pool, some)
    num_duplicates = write_duplicates(folder / "duplicates.tsv", pool, splits)
    # 2. The manifest, which is written last: who finds it finds all of the data set.
    facts = pool.form.facts(folder, pool.contents(splits["train"]))
    inputs = InputFacts(list(pool.image_shape or ()), *statistics_of(levels), facts)
    manifest = dataset_manifest(source, pool.numbering.class_names, inputs, rows, num_broken)
    write_sealed(folder / "manifest.json", manifest.to_dict())
    classes_an_image = _classes_an_image(rows) if manifest.signal == "binary" else None
    return Prepared(manifest, num_duplicates, values_line(levels), classes_an_image)


def _classes_an_image(splits: Mapping[str, SplitRows]) -> float:
    labels = [rows.hard_labels[is_labelled(rows.hard_labels)] for rows in splits.values()]
    return sum(np.count_nonzero(each == 1) for each in labels) / sum(map(len, labels))


def summary(prepared: Prepared, folder: Path) -> str:
    """Returns one line about a data set that was written to `folder`: its size, and repeated and
    broken images.
    """
    manifest, things = prepared.manifest, prepared.manifest.kind.things
    shape = " x ".join(map(str, manifest.image_shape))
    counts = {name: f"{count:,} {name}" for name, count in manifest.num_samples.items()}
    if manifest.num_unlabelled:
        counts["train"] += f" ({manifest.num_unlabelled:,} of them unlabelled)"
    classes = f"{len(manifest.class_names)} classes"
    if manifest.signal == "grid":
        classes = f"masks, {classes}"
    elif prepared.classes_an_image is not None:
        each = "an image" if manifest.kind == IMAGE else f"a {manifest.kind.thing}"
        classes = f"multi-label, {classes}, {prepared.classes_an_image:.1f} {each}"
    parts = [f"{manifest.source}, {classes}, {things} {shape}, {', '.join(counts.values())}"]
    if manifest.num_repeated_in_train:
        parts.append(f"{manifest.num_repeated_in_train:,} training {things} repeat another one")
    for name, count in (("val", manifest.num_shared_with_val), ("test", manifest.num_shared_with_test)):
        if count:
            parts.append(f"{count:,} {name} {things} are in the training set too")
    if prepared.num_duplicates:
        parts.append(f"see {folder / 'duplicates.tsv'}")
    if manifest.num_skipped:
        parts.append(f"{manifest.num_skipped:,} broken {things} skipped, see {folder / 'broken.tsv'}")
    return "; ".join(parts)
