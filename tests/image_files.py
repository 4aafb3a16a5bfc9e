"""The same few images in every layout that a source reads."""

import csv
import io
import json
import struct
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.base import RawImage, Source

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """An image: where it belongs, and its file."""

    split: str
    label: str | None
    name: str
    content: bytes


def image_file(seed: int, kind: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, {"png": "PNG", "jpg": "JPEG"}[kind])
    return file.getvalue()


def make_samples(labels: Iterable[str | None] = ("ant", "bee", "cat"), each: int = 3) -> list[Sample]:
    """Returns `each` training images a class, one for val and one for test; PNG and JPEG in
    turn."""
    samples = []
    for split in SPLITS:
        for label in labels:
            for number in range(each if split == "train" else int(label is not None)):
                kind = ("png", "jpg")[len(samples) % 2]
                samples.append(Sample(split, label, f"{number:03}.{kind}", image_file(len(samples), kind)))
    return samples


def write_folder(path: Path, samples: Iterable[Sample]) -> None:
    for sample in samples:
        file = path / sample.split / (sample.label or "_unlabelled") / sample.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(sample.content)


def write_manifest(path: Path, samples: list[Sample]) -> None:
    """Writes a folder of images and a table of them: .csv, .tsv or .parquet by its name."""
    write_folder(path.parent / "images", samples)
    columns: dict[str, list[str | None]] = {
        "file": [f"images/{one.split}/{one.label or '_unlabelled'}/{one.name}" for one in samples],
        "what": [one.label for one in samples],
        "part": [one.split for one in samples],
    }
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=4)
        return
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(columns)
        writer.writerows([text or "" for text in row] for row in zip(*columns.values(), strict=True))


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_webdataset(path: Path, samples: list[Sample], *, as_json: bool = False, suffix: str = ".tar") -> None:
    """Writes two tars for training, one for each other split."""
    for split in SPLITS:
        of_split = [sample for sample in samples if sample.split == split]
        half = (len(of_split) + 1) // 2 if split == "train" else len(of_split)
        for number, some in enumerate((of_split[:half], of_split[half:])):
            members = []
            for row, sample in enumerate(some):
                members.append((f"{row:05}.{sample.name.partition('.')[2]}", sample.content))
                if as_json:
                    members.append((f"{row:05}.json", json.dumps({"class": sample.label}).encode()))
                elif sample.label is not None:
                    members.append((f"{row:05}.cls", sample.label.encode()))
            if members:
                write_tar(path / f"pets-{split}-{number:04}{suffix}", members)


def write_parquet(path: Path, samples: list[Sample], names: list[str] | None = None, *, plain: bool = False) -> None:
    """Writes files as Hugging Face does, with `names` in the metadata; or plain bytes and text."""
    path.mkdir(parents=True, exist_ok=True)
    for split, word in zip(SPLITS, ("train", "validation", "test"), strict=True):
        of_split = [sample for sample in samples if sample.split == split]
        half = (len(of_split) + 1) // 2
        for number, some in enumerate((of_split[:half], of_split[half:])):
            table = _table(some, names, plain=plain)
            pq.write_table(table, path / f"{word}-{number:05}-of-00002.parquet", row_group_size=2)


def _table(samples: list[Sample], names: list[str] | None, *, plain: bool) -> Any:
    contents: list[Any] = [sample.content for sample in samples]
    labels: list[Any] = [sample.label for sample in samples]
    if plain:
        return pa.table({"id": list(range(len(samples))), "picture": pa.array(contents, pa.binary()), "label": labels})
    numbers = [-1 if label is None else (names or []).index(label) for label in labels]
    images = pa.array([{"bytes": content, "path": "x"} for content in contents])
    features = {"image": {"_type": "Image"}, "animal": {"names": names, "_type": "ClassLabel"}}
    table = pa.table({"image": images, "animal": pa.array(numbers, pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """Writes an IDX file of unsigned bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def source(kind: str, path: Path, **settings: object) -> Source:
    return build_source({"kind": kind, "path": str(path), **settings}, "prepare.source")


def all_of(one: Source, start: int = 0) -> list[RawImage]:
    return list(one.images(Path("raw"), start))
