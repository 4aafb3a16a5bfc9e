"""prepare: raw images -> data/prepare (images, hard labels, sample ids, splits, and lists of what is what)."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.errors import DataError
from pipeline.core.files import write_json
from pipeline.core.progress import progress, say
from pipeline.core.scratch import WORK, Scratch
from pipeline.data.dataset import SPLITS, DatasetManifest
from pipeline.data.splits import UNLABELLED
from pipeline.preparation.lists import write_broken, write_duplicates, write_samples
from pipeline.preparation.order import hold_out
from pipeline.preparation.pool import Pool
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources import Source, build_source
from pipeline.preparation.statistics import statistics_of
from pipeline.preparation.write import SplitRows, describe, write_split

Rows = Mapping[str, np.ndarray]  # of each split: the pool's images, in their order


def main(
    params: Path = PARAMS, raw: Path = Path("data/raw"), out: Path = Path("data/prepare"), work: Path = WORK
) -> None:
    settings = load_section(Prepare, "prepare", params)
    settings.check(f"{params}: prepare")
    source = build_source(settings.source, f"{params}: prepare.source")
    class_names = source.class_names(raw)
    decides = {"settings": asdict(settings), "class_names": list(class_names), "files": _files_fingerprint(source)}
    with Scratch(out, decides, work, code=Path(__file__), keep=not source.names_other_files) as scratch:
        if scratch.done:
            return
        count = source.count(raw)
        pool = Pool(scratch.folder / "pool", settings.form, class_names, count)
        with progress("prepare", count, "image", pool.num_taken) as on_images:
            for taken in pool.fill(source.images(raw, pool.num_taken)):
                on_images(taken)
        _check_pool(pool, settings, work)
        rows = _assign(pool, settings)
        manifest, num_duplicates = _write(scratch, pool, rows, source.kind)
        scratch.publish()
    _tell(manifest, num_duplicates, out)


def _files_fingerprint(source: Source) -> str | None:
    """32 hex digits of the names, sizes and times of a source's own files: work that was begun with others is not gone
    on with."""
    place = getattr(source, "path", None)
    if not isinstance(place, str):
        return None
    digest = hashlib.sha256()
    for path in _walk(Path(place)):
        stat = path.stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _walk(path: Path) -> Iterator[Path]:
    """The files at and below a path in their order; of a pattern, those in the folder that it begins with."""
    if path.is_file():
        yield path
    elif not path.is_dir():
        folder = next(parent for parent in path.parents if parent.is_dir())
        yield from sorted(file for file in folder.iterdir() if file.is_file())
    else:
        for here, folders, files in os.walk(path, followlinks=True):
            folders.sort()
            yield from (file for name in sorted(files) if (file := Path(here, name)).exists())


def _check_pool(pool: Pool, settings: Prepare, work: Path) -> None:
    """Raises DataError where there is nothing to train on, or something that is to be refused."""
    broken = next(pool.broken(), None)
    if broken and settings.broken == "refuse":
        listing = work / "prepare.broken.tsv"
        count = write_broken(listing, pool)
        found = f"{broken.reason}; {count:,} of {pool.num_taken:,} images are broken, listed in {listing}"
        pool.clear()  # or fixed ones would not be looked at again
        raise DataError(broken.key, found, fix="fix or remove them, or set prepare.broken: skip in params.yaml")
    where = f"source {settings.source['kind']!r}"
    if pool.image_shape is None:
        found = f"none of its {pool.num_taken:,} images can be decoded" if broken else "no images"
        raise DataError(where, found, expected="images", fix="look at prepare.source in params.yaml")
    labels = pool.column("hard_labels")
    if (labels == UNLABELLED).all():
        raise DataError(where, f"all {len(labels):,} images are unlabelled", expected="a class for some of them")


def _assign(pool: Pool, settings: Prepare) -> Rows:
    """Which images of the pool are in which split: as the source says, and held out where it has no such split."""
    splits, labels, ids = (pool.column("splits"), pool.column("hard_labels"), pool.column("sample_ids"))
    order = pool.order()
    rows = {name: order[splits[order] == number] for number, name in enumerate(SPLITS)}
    for name in ("val", "test"):
        for key in pool.keys(rows[name][labels[rows[name]] == UNLABELLED][:1]):
            raise DataError(key, f"unlabelled, in the split {name}", expected="a class", fix="take it to train")
    for name, fraction in (("test", settings.test_fraction), ("val", settings.val_fraction)):
        if len(rows[name]) == 0:
            train = rows["train"]
            out = hold_out(name, labels[train], ids[train], fraction, settings.seed, pool.class_names)
            rows[name], rows["train"] = train[out], train[~out]
    known = np.unique(labels[rows["train"]])
    for name in ("val", "test"):
        foreign = rows[name][~np.isin(labels[rows[name]], known)][:1]
        for key in pool.keys(foreign):
            found = f"class {pool.class_names[labels[foreign[0]]]!r} is in {name}, but no training image is of it"
            raise DataError(key, found, fix="add some to train, or take it out")
    if lacking := [name for number, name in enumerate(pool.class_names) if number not in known]:
        say(f"prepare: no images of {len(lacking)} classes, the first: {lacking[0]!r}")
    return rows


def _write(scratch: Scratch, pool: Pool, rows: Rows, source: str) -> tuple[DatasetManifest, int]:
    """The data set in the scratch's output; how many samples are in its list of duplicates."""
    out, shape = scratch.output, pool.image_shape
    assert shape is not None, "there are images"
    splits = {name: _split_rows(pool, rows[name]) for name in SPLITS}
    given = pool.column("splits")
    levels = pool.levels()
    for name in ("val", "test"):  # those that were held out are no training images any more
        levels -= pool.count_levels(rows[name][given[rows[name]] == SPLITS.index("train")])
    num_broken = write_broken(out / "broken.tsv", pool)
    manifest = describe(source, pool.class_names, list(shape), statistics_of(levels), splits, num_broken)
    with progress("prepare, splits", sum(map(len, rows.values())), "image") as on_images:
        for name, split in splits.items():
            write_split(out / f"{name}.zarr", split, shape, scratch.folder / f"{name}.written.json")
            on_images(len(split))
    write_samples(out / "samples.tsv", pool, rows)
    num_duplicates = write_duplicates(out / "duplicates.tsv", pool, rows)
    write_json(out / "manifest.json", asdict(manifest))
    return manifest, num_duplicates


def _split_rows(pool: Pool, rows: np.ndarray) -> SplitRows:
    labels, ids, sizes = (pool.column(name)[rows] for name in ("hard_labels", "sample_ids", "sizes"))
    encoded = pool.form.storage == "encoded"
    return SplitRows(labels, ids, sizes if encoded else None, lambda start: pool.contents(rows[start:]))


def _tell(manifest: DatasetManifest, num_duplicates: int, out: Path) -> None:
    """What came out, in a line."""
    shape = " x ".join(map(str, manifest.image_shape))
    counts = {name: f"{count:,} {name}" for name, count in manifest.num_samples.items()}
    if manifest.num_unlabelled:
        counts["train"] += f" ({manifest.num_unlabelled:,} of them unlabelled)"
    parts = [f"{manifest.source}, {len(manifest.class_names)} classes, images {shape}, {', '.join(counts.values())}"]
    if manifest.num_repeated_in_train:
        parts.append(f"{manifest.num_repeated_in_train:,} training images repeat another one")
    for name, count in (("val", manifest.num_shared_with_val), ("test", manifest.num_shared_with_test)):
        if count:
            parts.append(f"{count:,} {name} images are in the training set too")
    if num_duplicates:
        parts.append(f"see {out / 'duplicates.tsv'}")
    if manifest.num_skipped:
        parts.append(f"{manifest.num_skipped:,} broken images skipped, see {out / 'broken.tsv'}")
    say(f"prepare: {'; '.join(parts)}")


if __name__ == "__main__":
    run_stage(main)
