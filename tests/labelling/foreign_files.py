"""Label files of other systems, small ones, made to their documented layouts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import Table, array, parquet


def kept(shares: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k most likely classes of labels and their probabilities, the likeliest first."""
    order = np.argsort(-shares, axis=-1, kind="stable")[..., :k]
    return order, np.take_along_axis(shares, order, axis=-1)


def write_tinyvit(folder: Path, names: Sequence[str], views: np.ndarray, k: int = 2) -> Path:
    """Writes an epoch's folder for each view, of two processes, each in an order of its own."""
    rng = np.random.default_rng(0)
    for epoch, shares in enumerate(views):
        place = folder / f"logits_top{k}_epoch{epoch}"
        place.mkdir(parents=True)
        for rank, rows in enumerate(np.array_split(rng.permutation(len(names)), 2)):
            classes, values = kept(shares[rows], k)
            packed = b"".join(
                np.int32(7).tobytes() + some.astype("<i2").tobytes() + each.astype("<f2").tobytes()
                for some, each in zip(classes, values, strict=True)
            )
            (place / f"rank{rank}-values.bin").write_bytes(packed)
            (place / f"rank{rank}-keys.txt").write_text("".join(f"{names[row]}\n" for row in rows))
    return folder


def write_fkd(folder: Path, names: Sequence[str], views: np.ndarray, form: str = "marginal") -> Path:
    """Writes a file for each image, of every view as a crop."""
    for row, name in enumerate(names):
        file = folder / f"{name.rsplit('.', 1)[0]}.tar"
        file.parent.mkdir(parents=True, exist_ok=True)
        classes, values = kept(views[:, row], 2)
        labels = {
            "hard": classes[:, 0],
            "smoothing": np.stack([classes[:, 0], values[:, 0]], axis=1).astype(np.float32),
            "marginal": np.stack([classes, values], axis=1).astype(np.float32),
            "full": views[:, row].astype(np.float32),
        }[form]
        coordinates = np.random.default_rng(row).random((len(views), 4), np.float32)
        torch.save([coordinates, np.zeros(len(views), bool), labels], file)
    return folder


def write_ced(folder: Path, names: Sequence[str], views: np.ndarray, **packing: Any) -> Path:
    """Writes a pair of files for each view."""
    import h5py

    folder.mkdir(parents=True)
    for epoch, shares in enumerate(views, 1):
        classes, values = kept(shares, 2)
        with h5py.File(folder / f"logits_ep{epoch}_0.h5", "w") as file:
            file.create_dataset("topk_values", data=values.astype(np.float16), **packing)
            file.create_dataset("topk_indexes", data=classes.astype(np.int16), **packing)
            file.create_dataset("seeds", data=np.zeros(len(names), np.int32))
        zeros = array(np.zeros(len(names), np.float32))
        table = Table.from_pydict({"filename": array(list(names)), "start": zeros, "end": zeros})
        parquet.write_table(table, folder / f"logits_ep{epoch}_0.parquet")
    return folder


CONFIG = """\
d: 6
delta_encoding: {delta}
error_diffusion: false
exact_dtype: bfloat16
exact_k: 1
k: 3
normalize_t: false
polynomial_terms: [0, sqrt]
residual_bins:
- {{element_bits: 5, num_elements: 1, scale_dtype: float16}}
term_dtype: float32
"""


def pack_bits(numbers: Sequence[int], bits: int) -> list[int]:
    """Returns whole numbers as bytes, the highest bit first."""
    text = "".join(f"{number:0{bits}b}" for number in numbers)
    text += "0" * (-len(text) % 8)
    return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]


def pack_label(log_probs: np.ndarray, delta: bool) -> list[int]:
    """Returns three log-probabilities by CONFIG: the first is exact; a constant and a multiple of
    a square root pass through the others, except a whole multiple of 1/64 that the bin adds."""
    values = np.diff(log_probs, prepend=0) if delta else log_probs
    exact = np.float32(values[0]).tobytes()[2:]
    off = 3 / 64
    terms = np.array([values[1] - off, values[2] - values[1] + off], "<f4").tobytes()
    return [*exact, *terms, *np.float16(1 / 64).tobytes(), *pack_bits([3 + 16], 5)]


def write_distillkit(folder: Path, names: Sequence[str], views: np.ndarray, *, delta: bool = False) -> Path:
    """Writes a file for each view, of six tokens, of which 1, 2, 4 and 5 are the classes; rows have
    one position, and a name."""
    folder.mkdir(parents=True)
    (folder / "compression_config.yaml").write_text(CONFIG.format(delta=str(delta).lower()))
    tokens = np.array([1, 2, 4, 5])
    for number, shares in enumerate(views):
        classes, values = kept(shares, 3)
        columns = {
            "image": list(names),
            "input_ids": [[9, 1] for _ in names],
            "compressed_logprobs": [[pack_label(np.log(each), delta)] for each in values],
            "bytepacked_indices": [[pack_bits(tokens[some].tolist(), 3)] for some in classes],
        }
        parquet.write_table(Table.from_pydict(columns), folder / f"data_{number}.parquet")
    return folder
