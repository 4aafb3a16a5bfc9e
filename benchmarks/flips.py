"""Flipped bits in what a run has left on disk: each is found, or nothing that decides a result is
read from it.

    python -m benchmarks.flips --flips 200

Takes the folders in `data/` of this project, which `make repro` has left, one after the other.
Nothing there is changed: a flip is made in a copy.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from benchmarks.measure import need_data, report
from pipeline.core.errors import PipelineError, one_line_errors
from pipeline.data.dataset import ImageDataset
from pipeline.labels.reader import StoreReader
from pipeline.models.saved import read_meta, read_model

#: All that readers take from a folder, as bytes.
Read = Callable[[Path], list[bytes]]


def read_data(folder: Path) -> list[bytes]:
    data = ImageDataset(folder)
    splits = [data.split(name) for name in ("train", "val", "test")]
    arrays = [(split.inputs.numpy(), split.hard_labels.numpy(), split.sample_ids) for split in splits]
    return [repr(data.manifest).encode(), *(array.tobytes() for each in arrays for array in each)]


def read_network(folder: Path) -> list[bytes]:
    names = [path.stem for path in sorted(folder.glob("*.safetensors"))]
    models = [read_model(folder, made_by="flips", weights=name) for name in names]
    weights = [part.numpy().tobytes() for model in models for part in model.state_dict().values()]
    return [repr(read_meta(folder, made_by="flips")).encode(), *weights]


def read_store(folder: Path) -> list[bytes]:
    store = StoreReader(folder)
    store.check_whole()
    labels = [store.read_view(view) for view in range(store.manifest.num_views)]
    tensors = [part.numpy() for each in labels for part in each.values()]
    canaries = store.canaries
    beside = [store.samples.keys, canaries.sample_ids, canaries.views, canaries.rendered, *store.tables.values()]
    return [repr(store.manifest).encode(), *(array.tobytes() for array in (*beside, *tensors))]


def outcome(folder: Path, read: Read, expected: list[bytes]) -> str:
    """Returns how a flip was found, if it was."""
    try:
        found = read(folder)
    except PipelineError:
        return "found"
    return "not found, and nothing is read from it" if found == expected else "NOT FOUND, AND READ"


def flip(path: Path, rng: random.Random) -> bytes:
    """Flips a bit of a file; returns what it was before."""
    before = path.read_bytes()
    place = rng.randrange(8 * len(before))
    damaged = bytearray(before)
    damaged[place // 8] ^= 1 << place % 8
    path.write_bytes(damaged)
    return before


def main(flips: int = 200, seed: int = 0) -> None:
    need_data()
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    kinds: dict[str, tuple[Read, list[Path]]] = {
        "data/prepare": (read_data, [Path("data/prepare")]),
        "data/train_teacher": (read_network, [Path("data/train_teacher")]),
        "data/train_student": (read_network, sorted(Path("data/train_student").iterdir())),
        "data/dump_labels": (read_store, sorted(Path("data/dump_labels").iterdir())),
    }
    for kind, (read, folders) in kinds.items():
        how: Counter[str] = Counter()
        with TemporaryDirectory() as temporary:
            copies = [Path(shutil.copytree(folder, Path(temporary) / folder.name)) for folder in folders]
            expected = {copy: read(copy) for copy in copies}
            for _ in range(flips // len(kinds)):
                copy = rng.choice(copies)
                path = rng.choice(sorted(file for file in copy.rglob("*") if file.is_file() and file.stat().st_size))
                before = flip(path, rng)
                how[outcome(copy, read, expected[copy])] += 1
                path.write_bytes(before)
        rows += [{"folder": kind, "outcome": each, "flips": count} for each, count in how.items()]
    report("flips", f"one bit flipped in one of the files of a folder, {flips} times in all", rows)


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
