"""Another reader: written from docs/store-format.md alone, with tensorstore and numpy, it reads
what ours reads.
"""

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_split
from other_views import mix, partner_of, philox, pixels_kept, render_view, sample_id, sample_key

from pipeline.core.closure import TOP
from pipeline.core.errors import StoreError
from pipeline.data.sample_ids import sample_ids
from pipeline.data.splits import SplitInMemory
from pipeline.labelling.derive.base import Destination
from pipeline.labelling.derive.subset import Subset
from pipeline.labelling.writer import StoreWriter
from pipeline.labels.canaries import make_canaries
from pipeline.labels.encodings import build_encoding
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.signals import SignalKind
from pipeline.views.operations.cutmix import CutMix
from pipeline.views.operations.flips import FlipHorizontal
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.plan import RowOrder
from pipeline.views.spec import ViewSpec, render

# The reader. From here to the stores it uses nothing of Potstill's.

Array = np.ndarray[Any, np.dtype[Any]]


class RefusedError(Exception):
    """A store that a reader must not read."""


def open_array(tensorstore: ModuleType, path: Path) -> Array:
    """Reads a whole Zarr v3 array."""
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    read: Array = tensorstore.open(spec, read=True).result().read().result()
    return read


def log_softmax(x: Array) -> Array:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def log_scale(codes: Array, levels: int, range_nats: float) -> Array:
    return -range_nats * (codes / (levels - 1.0)) ** 2


def log_scale_type(levels: int) -> str:
    return "uint8" if levels <= 255 else "uint16"


def class_type(numbers: int) -> str:
    """Returns the type of class numbers below `numbers`, and one more."""
    return next(name for name in ("uint8", "uint16", "uint32", "uint64") if numbers <= np.iinfo(name).max)


@dataclass
class OtherReader:
    """A store, as the document has it."""

    path: Path
    tensorstore: ModuleType
    manifest: dict[str, Any] = field(init=False)
    arrays: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        group = json.loads((self.path / "zarr.json").read_text())
        assert (group["zarr_format"], group["node_type"]) == (3, "group")
        self.manifest = manifest = group["attributes"]
        rest = {key: value for key, value in manifest.items() if key != "fingerprint"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        if (
            manifest["format"] != "potstill-soft-labels"
            or manifest["version"] not in (1, 2)
            or manifest["complete"] is not True
            or manifest["fingerprint"] != hashlib.sha256(text.encode()).hexdigest()[:32]
        ):
            raise RefusedError("the manifest")
        self.encoding = manifest["encoding"]
        self.num_views, self.num_samples = len(manifest["view_numbers"]), manifest["num_samples"]
        self.num_classes = len(manifest["class_names"])
        self.t0 = manifest["temperature"]
        self.others = [t for t in manifest["temperatures"] if t != self.t0]
        names = [*self.expected(), *self.fields(), *self.anchors(), *self.tables()]
        in_blocks = {*self.fields(), *self.anchors()}
        lost = [name for name in names if name not in in_blocks and not (self.path / name / "c").exists()]
        if lost:
            raise RefusedError(f"{lost[0]} has no file")
        self.arrays = {name: open_array(self.tensorstore, self.path / name) for name in names}
        beside = hashlib.blake2b(digest_size=16)
        for name in sorted({*names} - in_blocks):
            if not name.startswith("fidelity_"):
                beside.update(np.ascontiguousarray(self.arrays[name]).tobytes())
        if manifest["arrays_digest"] != beside.hexdigest():
            raise RefusedError("the arrays beside the labels")

    @property
    def is_independent(self) -> bool:
        """Whether labels are log-odds of independent classes."""
        return self.manifest.get("signal", "categorical") == "binary"

    @property
    def count(self) -> int | None:
        """The number of positions of a label; None where labels are not of a grid."""
        if "positions" not in self.manifest:
            return None
        at, (height, width) = self.encoding.get("positions", {"stride": 1}), self.manifest["positions"]
        return int(at["count"]) if "count" in at else height // at["stride"] * (width // at["stride"])

    def places(self, view_index: int) -> Array:
        """Returns the drawn positions of the labels of a view, row by row of the grid."""
        at, whole = self.encoding["positions"], int(np.prod(self.manifest["positions"]))
        found = []
        for number in self.arrays["draw"][view_index].tolist():
            ends = [i * whole // at["count"] for i in range(at["count"] + 1)]
            words = [philox((i // 4, number, 0, 0), split_words(at["seed"]))[i % 4] for i in range(at["count"])]
            found.append([a + w * (b - a) // 2**32 for w, a, b in zip(words, ends, ends[1:], strict=False)])
        return np.array(found)

    def at_places(self, view_index: int, logits: Array) -> Array:
        """Returns what labels of a view stand for, of logits [rows, classes, height, width]."""
        at = self.encoding["positions"]
        if "count" in at:
            flat = logits.reshape(*logits.shape[:2], -1)
            return np.take_along_axis(flat, self.places(view_index)[:, None], axis=2)
        n, classes, height, width = logits.shape
        cells = logits.reshape(n, classes, height // at["stride"], at["stride"], width // at["stride"], at["stride"])
        return cells.mean(axis=(3, 5)).reshape(n, classes, -1)

    @property
    def served(self) -> list[float]:
        """The served temperatures, where an encoding can't serve any."""
        if self.encoding["kind"] == "top_odds":
            return list(self.manifest["temperatures"])
        return [self.t0] if self.encoding["kind"] == "sampled" else [self.t0, *self.others]

    @property
    def measured(self) -> list[float]:
        """The temperatures of the fidelity."""
        return [t for t in self.manifest["temperatures"] if self.encoding["kind"] != "sampled" or t == self.t0]

    @property
    def listed(self) -> int:
        """The number m of classes that a row of the prior, or an anchor, lists."""
        if self.encoding["kind"] == "anchored":
            return min(self.encoding["anchor_classes"], self.num_classes - 1)
        return min(self.encoding["tail_classes"], self.num_classes - 1) if self.encoding["tail"] == "prior" else 0

    def expected(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Returns the arrays of every encoding: type and shape (None where the document has no
        number).
        """
        arrays: dict[str, tuple[str, tuple[int | None, ...]]] = {
            **(
                {"sample_id": ("uint64", (self.num_samples,))}
                if self.manifest["version"] == 1
                else {"sample_key": ("uint8", (self.num_samples, None))}
            ),
            "canary_sample_ids": ("uint64", (None,)),
            "canary_views": ("int64", (None,)),
            "canary_pixels": ("uint8", (None,) * (4 if self.manifest["version"] == 1 else 3)),
        }
        if self.encoding["kind"] != "none":
            arrays["block_digest"] = ("uint64", (self.num_views, len(self.blocks())))
            arrays["fidelity_counts"] = ("uint32", (None, len(self.measured), 651))
            arrays["fidelity_nats"] = ("float64", (None, len(self.measured), 2))
            arrays["fidelity_labels"] = ("uint32", (None, 2))
        if self.anchors():
            arrays["anchor_digest"] = ("uint64", (len(self.blocks()),))
        return arrays

    def keys(self) -> list[int]:
        """Returns the key of each row's sample, as a number of 8 bytes."""
        if self.manifest["version"] == 1:
            return [sample_key(sample, 8) for sample in self.arrays["sample_id"].tolist()]
        keys, word = [], 0
        for content in self.arrays["sample_key"]:
            number = int.from_bytes(content.tobytes().ljust(8, b"\0"), "big")
            word = (word + (number >> 32)) % 2**32
            keys.append(word << 32 | number % 2**32)
        return keys

    def rows_of(self, samples: list[int]) -> list[int]:
        """Returns the row of each sample id."""
        num_bytes = 8 if self.manifest["version"] == 1 else self.arrays["sample_key"].shape[1]
        keys = self.keys()
        return [keys.index(sample_key(sample, num_bytes)) for sample in samples]

    def canary(self, rendered: Array, sample: int, view: int) -> Array:
        """Returns what is kept of a rendered view."""
        if self.manifest["version"] == 1:
            return thumbnail(rendered)
        return pixels_kept(self.manifest["views"], rendered, sample, view, self.arrays["canary_pixels"].shape[2])

    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns type and shape per label of what the encoding keeps of each."""
        fields = self.row_fields()
        if self.count is None or not fields:
            return fields
        drawn: dict[str, tuple[str, tuple[int, ...]]] = {"draw": ("uint32", ())}
        placed = {name: (kind, (*shape, self.count)) for name, (kind, shape) in fields.items()}
        return placed | (drawn if "count" in self.encoding["positions"] else {})

    def row_fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns the same of a label at a single position."""
        row, classes = self.encoding, self.num_classes
        if row["kind"] == "dense_float16":
            return {"log_odds" if self.is_independent else "log_probs": ("float16", (classes,))}
        if row["kind"] == "log_odds_uint8":
            return {"log_odds_codes": ("uint8", (classes,))}
        if row["kind"] == "top_odds":
            return {"classes": (class_type(classes), (row["k"],)), "log_odds_codes": ("uint8", (row["k"],))}
        if row["kind"] == "dense_uint8":
            return {"log_prob_codes": (log_scale_type(row["levels"]), (classes,))}
        if row["kind"] == "anchored":
            kept = min(row["k"], classes - 1)
            codes: dict[str, tuple[str, tuple[int, ...]]] = {
                "places": ("uint8", (kept,)),
                "shift_codes": ("uint8", (kept,)),
            }
            return {"shapes": ("uint8", (1,)), **codes, "elsewhere": (class_type(classes), (kept,))}
        if row["kind"] == "topk":
            steps = {"tail_steps": ("int8", (len(self.others),))} if self.others else {}
            return {
                "classes": (class_type(self.listed + classes), (row["k"],)),
                "log_prob_codes": (log_scale_type(row["levels"]), (row["k"],)),
                **steps,
            }
        if row["kind"] == "sampled":
            entries = (min(row["draws"], classes),)
            return {"classes": (class_type(classes), entries), "counts": (class_type(row["draws"] + 1), entries)}
        assert row["kind"] == "none"
        return {}

    def anchors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns type and shape per sample of what the encoding keeps of each."""
        if self.encoding["kind"] != "anchored":
            return {}
        return {
            "anchor_gaps": ("uint8", (self.listed,)),
            "anchor_gap_highs": (class_type(self.num_classes // 255 + 1), (self.listed,)),
            "anchor_steps": ("uint8", (self.listed + 1,)),
        }

    def tables(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns type and shape of what the encoding keeps once."""
        if self.encoding["kind"] == "top_odds":
            return {"mean_log_odds": ("float32", (len(self.served), self.num_classes))}
        if self.encoding["kind"] != "topk" or self.encoding["tail"] != "prior":
            return {}
        temperatures, classes = len(self.served), self.num_classes
        return {
            "prior_classes": (class_type(classes), (classes, self.listed)),
            "prior_codes": ("uint8", (temperatures, classes, self.listed)),
            "prior_rest_codes": ("uint8", (temperatures, classes)),
            "tail_offsets": ("float32", (temperatures, classes)),
        }

    def fill_value(self, name: str) -> float:
        """Returns the fill value of a field: no label has it."""
        kind = {**self.fields(), **self.anchors()}[name][0]
        if name == "tail_steps":
            return -128
        return float("nan") if kind == "float16" else float(np.iinfo(kind).max)

    def blocks(self) -> list[slice]:
        """Returns the rows of each block of a view."""
        step = self.manifest["block_samples"]
        return [slice(start, min(start + step, self.num_samples)) for start in range(0, self.num_samples, step)]

    def digest(self, view_index: int | None, rows: slice) -> int:
        """Returns the digest of a block of labels or, without a view, of anchors."""
        if view_index is None:
            parts = [self.arrays[name][rows] for name in sorted(self.anchors())]
        else:
            parts = [self.arrays[name][view_index, rows] for name in sorted(self.fields())]
        content = b"".join(np.ascontiguousarray(part).astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") or 1

    def fidelity(self) -> dict[str, Any]:
        """Returns what the manifest says of fidelity, from the arrays."""
        counts = self.arrays["fidelity_counts"].astype(np.int64).sum(axis=0)
        labels = self.arrays["fidelity_labels"].astype(np.int64).sum(axis=0)
        nats = self.arrays["fidelity_nats"]
        kl = {}
        for index, temperature in enumerate(self.measured):
            assert counts[index].sum() == labels[0]
            largest = nats[:, index, 1].max()
            reached = np.nonzero(counts[index].cumsum() >= 0.999 * labels[0])[0][0]
            p999 = min(1e-9 * np.exp((reached + 1) / 25), largest)
            kl[f"{temperature:g}"] = {"mean": nats[:, index, 0].sum() / labels[0], "p999": p999, "max": largest}
        return {"num_labels": int(labels[0]), "top1_agreement": labels[1] / labels[0], "kl_nats": kl}

    def decode(self, view_index: int, temperature: float) -> Array:
        """Log-probabilities, or log-odds, of all labels of a view."""
        label = {name: self.arrays[name][view_index] for name in self.fields()}
        label |= {name: self.arrays[name] for name in self.anchors()}
        for name, values in label.items():
            fill = self.fill_value(name)
            if (np.isnan(values) if np.isnan(fill) else values == fill).any():
                raise RefusedError(f"{name} was never written")
        if self.count is None:
            return self.decode_rows(label, temperature)
        own = {n: np.moveaxis(label[n], -1, 1).reshape(-1, *label[n].shape[1:-1]) for n in self.row_fields()}
        rows = self.decode_rows(own, temperature)
        return np.moveaxis(rows.reshape(self.num_samples, self.count, -1), 2, 1)

    def decode_rows(self, label: dict[str, Array], temperature: float) -> Array:
        """Returns the same of labels of whole samples, or of single positions."""
        row = self.encoding
        if self.is_independent:
            return self.log_odds(label, temperature)
        if row["kind"] == "dense_float16":
            return log_softmax(label["log_probs"].astype(np.float64) * self.t0 / temperature)
        if row["kind"] == "dense_uint8":
            x = log_scale(label["log_prob_codes"], row["levels"], row["range_nats"])
            return log_softmax(x * self.t0 / temperature)
        if row["kind"] == "anchored":
            return log_softmax(self.shifted(label) * self.t0 / temperature)
        if temperature not in self.served:
            raise RefusedError(f"{temperature} is not served")
        if row["kind"] == "topk":
            return self.spread(*self.kept(label, temperature), temperature)
        shares = np.zeros((self.num_samples, self.num_classes))
        present = label["counts"] > 0
        at = np.broadcast_to(np.arange(self.num_samples)[:, None], present.shape)
        shares[at[present], label["classes"][present]] = label["counts"][present] / row["draws"]
        with np.errstate(divide="ignore"):
            return np.log(shares)

    def log_odds(self, label: dict[str, Array], temperature: float) -> Array:
        """Returns the log-odds of independent classes."""
        row = self.encoding
        if row["kind"] == "dense_float16":
            return label["log_odds"].astype(np.float64) * self.t0 / temperature
        q = (label["log_odds_codes"].astype(np.float64) - row["steps"]) / row["steps"]
        kept = np.sign(q) * row["range_nats"] * q**2 * self.t0 / temperature
        if row["kind"] == "log_odds_uint8":
            return kept
        if temperature not in self.served:
            raise RefusedError(f"{temperature} is not served")
        means = self.arrays["mean_log_odds"][self.served.index(temperature)].astype(np.float64)
        whole = np.repeat(means[None], self.num_samples, axis=0)
        np.put_along_axis(whole, label["classes"].astype(np.int64), kept, axis=1)
        return whole

    def smoothed(self, logs: Array) -> Array:
        """Returns what fidelity compares of `sampled`: no class without a probability."""
        draws = self.encoding["draws"]
        return np.log((np.exp(logs) * draws + 1 / self.num_classes) / (draws + 1))

    def kept(self, label: dict[str, Array], temperature: float) -> tuple[Array, Array, Array]:
        """Steps 1 to 3 of `topk`: the kept classes, their log-probabilities, that of the tail."""
        row, k = self.encoding, self.encoding["k"]
        y = label["classes"][:, 0].astype(np.int64)
        classes = label["classes"].astype(np.int64)
        for column in range(1, k):
            ranks = classes[:, column].copy()
            classes[:, column] -= self.listed
            short = ranks < self.listed
            if short.any():
                lists = self.arrays["prior_classes"][y[short]]
                classes[short, column] = np.take_along_axis(lists, ranks[short, None], axis=1)[:, 0]
        logs = log_scale(label["log_prob_codes"], row["levels"], row["range_nats"])
        others, tail = logs[:, : k - 1], logs[:, k - 1]
        first = np.log(np.maximum(1 - np.exp(others).sum(axis=1) - np.exp(tail), 1e-9))
        if k > 1:
            first = np.maximum(first, others[:, 0] + 1e-4)
        if temperature != self.t0:
            a = self.t0 / temperature
            steps = label["tail_steps"][:, self.others.index(temperature)]
            if self.encoding["tail"] == "prior":
                offset = self.arrays["tail_offsets"][self.served.index(temperature), y].astype(np.float64)
            else:
                offset = (1 - a) * np.log(self.num_classes - k)
            tail = a * tail + offset + 0.25 * steps
            first, others = a * first, a * others
        whole = log_softmax(np.column_stack([first, others, tail]))
        return classes, whole[:, :k], whole[:, k]

    def shifted(self, label: dict[str, Array]) -> Array:
        """Returns the scores of all classes of `anchored` labels: those of anchors, shifted."""
        row, listed = self.encoding, self.listed
        # 1. The anchor.
        numbers = np.cumsum(label["anchor_gaps"].astype(int) + 255 * label["anchor_gap_highs"].astype(int), axis=1) - 1
        steps = label["anchor_steps"].astype(int)
        order = np.argsort(steps[:, :listed], axis=1, kind="stable")
        numbers = np.take_along_axis(numbers, order, axis=1)
        power = np.array([0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.45])[label["shapes"][:, 0]][:, None]
        scores = np.repeat(steps[:, -1:], self.num_classes, axis=1) * (-row["anchor_step_nats"] * power)
        listed_steps = np.take_along_axis(steps[:, :listed], order, axis=1)
        np.put_along_axis(scores, numbers, -row["anchor_step_nats"] * listed_steps * power, axis=1)
        # 2. The kept classes.
        for label_number, (places, codes) in enumerate(zip(label["places"], label["shift_codes"], strict=True)):
            kept = []
            for slot in np.flatnonzero(codes):
                elsewhere = places[slot] == listed
                kept.append(
                    label["elsewhere"][label_number, slot] if elsewhere else numbers[label_number, places[slot]]
                )
                scores[label_number, kept[-1]] += (int(codes[slot]) - 32) * row["step_nats"]
            others = np.arange(self.num_classes) != kept[0]
            scores[label_number, others] = np.minimum(
                scores[label_number, others], scores[label_number, kept[0]] - 1e-4
            )
        return scores

    def spread(self, classes: Array, logs: Array, tail: Array, temperature: float) -> Array:
        """Steps 4 and 5 of `topk`."""
        shape, y = (len(classes), self.num_classes), classes[:, 0]
        is_kept = np.zeros(shape, dtype=bool)
        np.put_along_axis(is_kept, classes, values=True, axis=1)
        w = np.zeros(shape)
        if self.encoding["tail"] == "prior":
            index = self.served.index(temperature)
            rest = log_scale(self.arrays["prior_rest_codes"][index], 255, 40.0)
            w[:] = (rest - np.log(max(1, self.num_classes - 1 - self.listed)))[y, None]
            listed = log_scale(self.arrays["prior_codes"][index], 255, 40.0)
            np.put_along_axis(w, self.arrays["prior_classes"].astype(np.int64)[y], listed[y], axis=1)
        shares = log_softmax(np.where(is_kept, -np.inf, w))
        whole = np.minimum(tail[:, None] + shares, logs[:, -1:] - 1e-4)
        np.put_along_axis(whole, classes, logs, axis=1)
        return log_softmax(whole)


def split_words(number: int) -> tuple[int, int]:
    return number % 2**32, number >> 32


def thumbnail(pixels: Array) -> Array:
    """Returns a thumbnail, averaged down to at most 32 x 32."""
    means = pixels.astype(np.float64)
    for axis in (1, 2):
        size = means.shape[axis]
        count = min(size, 32)
        spans = [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        means = np.stack([means.take(span, axis=axis).mean(axis=axis) for span in spans], axis=axis)
    return np.rint(means)


# Here the reader ends. Stores of Potstill's own, and what Potstill reads in them:

DOCUMENT = (TOP / "docs/store-format.md").read_text()
SAMPLES, VIEWS, BLOCK = 40, (0, 3, 5), 16
SPEC = ViewSpec(seed=2**40 + 5, plain_first=False, operations=(PadCrop(pad_px=2), FlipHorizontal(probability=0.5)))


@dataclass(frozen=True)
class Case:
    """A store to make."""

    encoding: dict[str, Any]
    classes: int = 7
    temperature: float = 1.0
    temperatures: tuple[float, ...] = (1.0, 2.0)
    block_samples: int = BLOCK
    shape: tuple[int, int, int] = (1, 12, 12)
    signal: SignalKind = "categorical"

    def logits(self) -> torch.Tensor:
        """Returns flat, plain and steep ones."""
        scales = torch.tensor([0.1, 1.0, 3.0, 30.0]).repeat(SAMPLES // 4)
        generator = torch.Generator().manual_seed(0)
        if self.signal == "grid":
            maps = torch.randn(len(VIEWS), SAMPLES, self.classes, *self.shape[1:], generator=generator)
            return scales[:, None, None, None] * maps
        return scales[:, None] * torch.randn(len(VIEWS), SAMPLES, self.classes, generator=generator)

    def split(self) -> SplitInMemory:
        return make_split(SAMPLES, shape=self.shape, classes=self.classes)

    def make(self, folder: Path) -> Path:
        encoding = build_encoding(self.encoding, "here")
        manifest = Manifest(
            encoding=encoding.to_dict(),
            class_names=[f"the {number}ème class" for number in range(self.classes)],
            view_numbers=list(VIEWS),
            num_samples=SAMPLES,
            block_samples=self.block_samples,
            temperature=self.temperature,
            temperatures=list(self.temperatures),
            views=SPEC.to_dict(),
            dataset_fingerprint="00ff",
            teacher=None if self.encoding["kind"] == "none" else {"fingerprint": "11ee", "val_accuracy": 0.9},
            signal=self.signal,
            positions=self.shape[1:] if self.signal == "grid" else None,
        )
        encoding.check(manifest.space, "here")
        logits, split = self.logits(), self.split()
        tables = encoding.learn(manifest.space.signal.values(logits.flatten(0, 1), self.temperature), manifest.space)
        canaries = make_canaries(split, SPEC, VIEWS, 6, RowOrder(split.sample_ids, self.block_samples))
        path = folder / "x.zarr"
        writer = StoreWriter(path, folder / "records", manifest, split.sample_ids, canaries, tables)
        mean = torch.log_softmax(torch.log_softmax(logits / self.temperature, dim=2).mean(dim=0), dim=1)
        for rows in manifest.ranges() if encoding.anchor_views else []:
            writer.write_anchors(rows, mean[rows.start : rows.stop])
        for block in manifest.blocks():
            writer.write(block, logits[block.view_index, block.rows.start : block.rows.stop])
        writer.finish()
        return path


def topk(k: int, tail: str, *, levels: int = 64, tail_classes: int = 256) -> dict[str, Any]:
    row = {"kind": "topk", "k": k, "levels": levels, "range_nats": 40.0}
    return row | {"tail": tail, "tail_classes": tail_classes}


def anchored(k: int, classes: int) -> dict[str, Any]:
    row = {"kind": "anchored", "k": k, "step_nats": 0.5, "least_gain_nats": 0.001, "anchor_views": len(VIEWS)}
    return row | {"anchor_classes": classes, "anchor_step_nats": 0.5}


def sampled(draws: int) -> dict[str, Any]:
    return {"kind": "sampled", "draws": draws, "seed": 3}


def uint8(levels: int) -> dict[str, Any]:
    return {"kind": "dense_uint8", "range_nats": 30.0, "levels": levels}


def odds(steps: int, range_nats: float = 16.0, **more: Any) -> dict[str, Any]:
    return {"kind": "top_odds" if more else "log_odds_uint8", "range_nats": range_nats, "steps": steps} | more


def at(row: dict[str, Any], block_samples: int = BLOCK, temperature: float = 1.0, temperatures: tuple[float, ...] = (1.0, 2.0), **positions: int) -> Case:  # fmt: skip
    """Returns labels at positions."""
    shape = (1, 4, 8)
    return Case(row | {"positions": positions}, 6, temperature, temperatures, block_samples, shape, "grid")


CASES = {
    "odds, float16": Case({"kind": "dense_float16"}, temperature=2.0, temperatures=(0.5, 2.0), signal="binary"),
    "odds": Case(odds(127), classes=5, signal="binary"),
    "odds, coarse, one class": Case(odds(3, 4.0), classes=1, temperature=2.0, signal="binary"),
    "odds, the top 2": Case(odds(31, k=2), temperatures=(4.0, 1.0), signal="binary"),
    "odds, the top 3, T0 not declared": Case(
        odds(127, k=3), classes=300, temperature=2.0, temperatures=(1.0,), signal="binary"
    ),
    "at all positions, float16": at({"kind": "dense_float16"}, stride=1),
    "in cells": at(uint8(255), stride=2, block_samples=64),
    "in cells, the top 2": at(topk(2, "prior", tail_classes=3), stride=4, temperatures=(2.0, 1.0)),
    "at drawn positions": at(uint8(100), count=5, seed=2**33 + 5, temperature=2.0),
    "at drawn positions, the top 2": at(topk(2, "rest", levels=300), count=17, seed=0),
    "none, of a grid": Case({"kind": "none"}, signal="grid"),
    "none": Case({"kind": "none"}),
    "none, large images": Case({"kind": "none"}, shape=(3, 50, 40)),
    "float16": Case({"kind": "dense_float16"}, classes=5),
    "uint8": Case(uint8(255), classes=12, temperature=2.0, temperatures=(0.5, 2.0, 1234567.0)),
    "uint8, 100 levels": Case(uint8(100), block_samples=64),
    "top 1 of 2 classes": Case(topk(1, "prior"), classes=2),
    "top 1": Case(topk(1, "prior"), classes=9, temperatures=(1.0, 2.0, 4.0)),
    "top 1, few listed": Case(topk(1, "prior", tail_classes=3), classes=9, temperatures=(4.0, 1.0, 1 / 3)),
    "top 2": Case(topk(2, "prior"), classes=12, temperatures=(2.0, 1.0)),
    "top 2, few listed": Case(topk(2, "prior", tail_classes=4, levels=255), classes=12),
    "top 2, one not listed": Case(topk(2, "prior", tail_classes=5)),
    "top 2, many classes": Case(topk(2, "prior", tail_classes=60), classes=200),
    "top 2, 8-bit classes": Case(topk(2, "prior", tail_classes=60), classes=195),
    "top 3, T0 not declared": Case(
        topk(3, "prior", tail_classes=4, levels=1000), classes=12, temperature=2.0, temperatures=(1.0, 4.0)
    ),
    "top 3, coarse": Case(topk(3, "prior", tail_classes=2, levels=6), classes=5, temperatures=(1.0, 0.5, 8.0)),
    "top 1, uniform": Case(topk(1, "uniform"), temperatures=(1.0,)),
    "top 2, uniform": Case(topk(2, "uniform"), temperature=2.0, temperatures=(0.5, 2.0, 8.0)),
    "top 3, uniform, coarse": Case(topk(3, "uniform", levels=6), temperatures=(1.0, 0.5, 8.0)),
    "top 1, rest, coarse": Case(topk(1, "rest", levels=6), temperatures=(1.0, 4.0)),
    "top 2, rest": Case(topk(2, "rest"), classes=3),
    "top 3, rest": Case(topk(3, "rest", levels=256), temperatures=(4.0, 0.5)),
    "anchored": Case(anchored(4, 60), classes=600, temperatures=(1.0, 2.0, 4.0)),
    "anchored, few listed": Case(anchored(3, 2), temperature=2.0, temperatures=(0.5, 2.0)),
    "anchored, two classes": Case(anchored(9, 64), classes=2, block_samples=64),
    "sampled": Case(sampled(20), temperatures=(2.0, 1.0)),
    "sampled, few draws": Case(sampled(3)),
    "sampled, 8-bit counts": Case(sampled(254)),
    "sampled, 16-bit counts": Case(sampled(255)),
}


@dataclass(frozen=True)
class Made:
    """A store and its two readers."""

    case: Case
    path: Path
    ours: StoreReader
    other: OtherReader


@pytest.fixture(scope="module")
def tensorstore() -> ModuleType:
    """Imports it late: it starts threads."""
    import tensorstore as module

    return module


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tensorstore: ModuleType) -> Made:
    case = CASES[request.param]
    path = case.make(tmp_path_factory.mktemp("made"))
    return Made(case, path, StoreReader(path), OtherReader(path, tensorstore))


def folders(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir() if entry.is_dir()}


def size_of(path: Path) -> int:
    """Returns the bytes in the files that are not metadata."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")


def test_a_store_holds_the_arrays_of_the_document(made: Made) -> None:
    other = made.other
    assert folders(made.path) == set(other.arrays)
    assert [name for name in other.arrays if not re.search(rf"\b{name}\b", DOCUMENT)] == []
    per_view = (other.num_views, other.num_samples)
    fields = {name: (kind, per_view + shape) for name, (kind, shape) in other.fields().items()}
    anchors = {name: (kind, (other.num_samples, *shape)) for name, (kind, shape) in other.anchors().items()}
    for name, (kind, shape) in {**other.expected(), **fields, **anchors, **other.tables()}.items():
        array = other.arrays[name]
        assert array.dtype == kind, name
        assert len(array.shape) == len(shape), name
        assert all(want in (None, got) for got, want in zip(array.shape, shape, strict=True)), (name, array.shape)
    if "block_digest" in other.arrays:
        parts = other.num_views * len(other.blocks())
        assert {len(other.arrays[name]) for name in other.arrays if name.startswith("fidelity")} == {parts}


def test_a_shard_is_a_block_and_inner_chunks_are_as_the_document_says(made: Made) -> None:
    other = made.other
    for name in other.arrays:
        stored = json.loads((made.path / name / "zarr.json").read_text())
        sharding = stored["codecs"][0]
        assert [codec["name"] for codec in stored["codecs"]] == ["sharding_indexed"]
        inner = sharding["configuration"]["codecs"]
        assert [codec["name"] for codec in inner] == ["bytes", "zstd", "crc32c"]
        assert inner[0].get("configuration", {"endian": "little"}) == {"endian": "little"}
        files = [file for file in (made.path / name).rglob("*") if file.is_file() and file.name != "zarr.json"]
        if name not in {**other.fields(), **other.anchors()}:
            assert len(files) == 1
            assert name != "sample_key" or sharding["configuration"]["chunk_shape"][-1] == 1
            continue
        lead = [1] if name in other.fields() else []
        fill = other.fill_value(name)
        assert stored["fill_value"] == ("NaN" if np.isnan(fill) else fill)
        assert stored["chunk_grid"]["configuration"]["chunk_shape"][: len(lead) + 1] == [*lead, other.blocks()[0].stop]
        assert len(files) == (other.num_views if lead else 1) * len(other.blocks())
        by_column = other.encoding["kind"] in ("topk", "sampled", "top_odds") or name in ("places", "shift_codes")
        if (by_column or other.count) and name != "draw":
            column = sharding["configuration"]["chunk_shape"][2:]
            assert column == ([1] if other.count is None else [1, other.count])


def test_the_manifest_counts_bytes_as_the_document_says(made: Made) -> None:
    other = made.other
    labels = other.num_views * other.num_samples
    assert other.manifest["label_bytes"] == round(size_of(made.path) / labels, 4)
    assert other.manifest["table_bytes"] == sum(size_of(made.path / name) for name in other.tables())
    assert other.manifest["anchor_bytes"] == sum(size_of(made.path / name) for name in other.anchors())


@pytest.mark.parametrize("made", [name for name in CASES if name.startswith("anchored")], indirect=True, scope="module")
def test_anchors_are_what_the_document_says(made: Made) -> None:
    other = made.other
    assert other.anchors()
    mean = log_softmax(log_softmax(made.case.logits().double().numpy() / other.t0).mean(axis=0))
    listed = np.sort(np.argsort(-mean, axis=1, kind="stable")[:, : other.listed], axis=1)
    gaps = other.arrays["anchor_gaps"].astype(int) + 255 * other.arrays["anchor_gap_highs"].astype(int)
    np.testing.assert_array_equal(np.cumsum(gaps, axis=1) - 1, listed)
    rest = np.exp(mean)
    np.put_along_axis(rest, listed, 0, axis=1)
    low = np.log(rest.sum(axis=1, keepdims=True) / (other.num_classes - other.listed))
    whole = np.concatenate([np.take_along_axis(mean, listed, axis=1), low], axis=1)
    steps = np.minimum((mean.max(axis=1, keepdims=True) - whole) / other.encoding["anchor_step_nats"], 254)
    assert np.abs(other.arrays["anchor_steps"] - steps).max() <= 0.501
    assert other.arrays["anchor_digest"].tolist() == [other.digest(None, rows) for rows in other.blocks()]


def test_every_block_has_its_digest(made: Made) -> None:
    other = made.other
    for view_index in range(other.num_views if other.fields() else 0):
        digests = [other.digest(view_index, rows) for rows in other.blocks()]
        assert other.arrays["block_digest"][view_index].tolist() == digests


def test_fidelity_in_the_manifest_follows_from_the_arrays(made: Made) -> None:
    stated = made.other.manifest["fidelity"]
    if not made.other.fields():
        assert stated is None
        return
    found = made.other.fidelity()
    assert found["kl_nats"].keys() == stated["kl_nats"].keys()
    for temperature, figures in found.pop("kl_nats").items():
        assert figures == pytest.approx(stated["kl_nats"][temperature], rel=1e-12)
    assert found == {name: value for name, value in stated.items() if name != "kl_nats"}


def simple_kl(exact: Array, decoded: Array) -> Array:
    kl: Array = (np.exp(exact) * (exact - decoded)).sum(axis=1)
    return kl


def bernoulli_kl(exact: Array, decoded: Array) -> Array:
    """Returns the sum over the classes of the KL of their two outcomes."""
    p = 1 / (1 + np.exp(-exact))
    no, yes = (np.logaddexp(0, decoded * s) - np.logaddexp(0, exact * s) for s in (1, -1))
    kl: Array = (p * yes + (1 - p) * no).sum(axis=1)
    return kl


def test_each_part_of_the_fidelity_is_that_of_its_block(made: Made) -> None:
    other, logits = made.other, made.case.logits().double().numpy()
    blocks = [(view, rows) for view in range(other.num_views) for rows in other.blocks()] if other.fields() else []
    for part, (view, rows) in enumerate(blocks):
        for place, temperature in enumerate(other.measured):
            exact, decoded = logits[view, rows] / temperature, other.decode(view, temperature)[rows]
            if other.count is not None:
                exact = other.at_places(view, logits[view])[rows] / temperature
                exact = np.moveaxis(log_softmax(np.moveaxis(exact, 1, -1)), -1, 1)
            elif not other.is_independent:
                exact = log_softmax(exact)
            if other.encoding["kind"] == "sampled":
                decoded = other.smoothed(decoded)
            kl = bernoulli_kl(exact, decoded) if other.is_independent else simple_kl(exact, decoded)
            kl = np.sort(kl if other.count is None else kl.mean(axis=1))
            nats = other.arrays["fidelity_nats"][part, place]
            np.testing.assert_allclose(nats, [kl.sum(), kl[-1]], rtol=1e-3, atol=1e-5)
            counts = other.arrays["fidelity_counts"][part, place]
            bins = np.repeat(np.arange(len(counts)), counts)
            expected = np.floor(25 * np.log(np.maximum(kl, 1e-9) / 1e-9))
            clear = kl > 1e-3  # below, float32 decides
            assert (np.abs(bins - expected)[clear] <= 1).all()
            if place == 0:
                same = exact.argmax(axis=1) == decoded.argmax(axis=1)
                if other.count is not None:
                    same = same.mean(axis=1) >= 0.99
                agreeing = (((exact >= 0) == (decoded >= 0)).all(axis=1) if other.is_independent else same).sum()
                assert other.arrays["fidelity_labels"][part].tolist() == [len(kl), agreeing]


def test_labels_are_read_alike_at_every_served_temperature(made: Made) -> None:
    other = made.other
    dense = other.encoding["kind"] in ("dense_float16", "dense_uint8", "anchored", "log_odds_uint8")
    for view_index in range(other.num_views if other.fields() else 0):
        labels = made.ours.read_view(view_index)
        for temperature in [*other.served, *([0.7, 16.0] if dense else [])]:
            ours = made.ours.codec.decode(labels, temperature).double().numpy()
            others = other.decode(view_index, temperature)
            if other.encoding["kind"] == "sampled":
                others = other.smoothed(others)
            if not other.is_independent:
                np.testing.assert_allclose(np.exp(ours), np.exp(others), rtol=0, atol=1e-5)
            np.testing.assert_allclose(ours, others, rtol=1e-5, atol=1e-4)
        if not dense:
            for refuse in (lambda: other.decode(0, 0.7), lambda labels=labels: made.ours.codec.decode(labels, 0.7)):
                with pytest.raises((RefusedError, StoreError)):
                    refuse()


def test_a_loss_is_given_what_the_document_says(made: Made) -> None:
    other = made.other
    sparse = other.encoding["kind"] == "sampled" or other.encoding.get("tail") == "rest"
    for view_index in range(other.num_views if sparse else 0):
        labels = made.ours.read_view(view_index)
        for temperature in other.served:
            targets = made.ours.codec.targets(labels, temperature)
            if other.count is not None:
                assert_placed(other, targets, view_index, temperature)
                continue
            shares = np.zeros((SAMPLES, other.num_classes))
            rows = np.arange(SAMPLES)[:, None]
            np.add.at(shares, (rows, targets.classes.numpy()), targets.log_probs.double().exp().numpy())
            if other.encoding["kind"] == "sampled":
                assert targets.log_rest is None
                np.testing.assert_allclose(shares, np.exp(other.decode(view_index, temperature)), atol=1e-6)
                continue
            stored = {name: other.arrays[name][view_index] for name in other.fields()}
            classes, log_probs, log_rest = other.kept(stored, temperature)
            np.testing.assert_array_equal(targets.classes.numpy(), classes)
            np.testing.assert_allclose(targets.log_probs.numpy(), log_probs, rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(targets.log_rest.numpy(), log_rest, rtol=1e-5, atol=1e-4)


def assert_placed(other: OtherReader, targets: Any, view_index: int, temperature: float) -> None:
    """Asserts that targets at positions are those of the document."""
    names = other.row_fields()
    stored = {name: np.moveaxis(other.arrays[name][view_index], -1, 1) for name in names}
    rows = {name: values.reshape(-1, *values.shape[2:]) for name, values in stored.items()}
    classes, log_probs, log_rest = other.kept(rows, temperature)
    np.testing.assert_array_equal(targets.rows.classes.numpy(), classes)
    np.testing.assert_allclose(targets.rows.log_probs.numpy(), log_probs, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(targets.rows.log_rest.numpy(), log_rest, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(targets.index.numpy(), other.places(view_index))
    whole, count = int(np.prod(other.manifest["positions"])), other.encoding["positions"]["count"]
    lengths = [(i + 1) * whole // count - i * whole // count for i in range(count)]
    np.testing.assert_allclose(targets.shares.numpy(), np.array(lengths) / whole, rtol=1e-6)


def test_canaries_are_rendered_alike(made: Made) -> None:
    images = {sample_id(image): image for image in made.case.split().inputs.numpy()}
    arrays = made.other.arrays
    assert made.other.rows_of(list(images)) == list(range(SAMPLES))
    assert set(arrays["canary_views"].tolist()) <= set(VIEWS)
    for sample, view, pixels in zip(*(arrays[f"canary_{n}"] for n in ("sample_ids", "views", "pixels")), strict=True):
        rendered = render_view(made.other.manifest["views"], images[int(sample)], int(view))
        np.testing.assert_array_equal(made.other.canary(rendered, int(sample), int(view)), pixels)


def test_a_store_made_from_another_is_read_too(tmp_path: Path, tensorstore: ModuleType) -> None:
    case = CASES["uint8, 100 levels"]
    whole = StoreReader(case.make(tmp_path))
    Subset(whole, [5, 0]).make(Destination(tmp_path / "some.zarr", tmp_path / "other records"))
    other = OtherReader(tmp_path / "some.zarr", tensorstore)
    assert folders(other.path) == set(other.arrays)
    assert other.manifest["view_numbers"] == [5, 0]
    for place, view_index in enumerate((2, 0)):
        ours = whole.codec.decode(whole.read_view(view_index), 2.0).numpy()
        np.testing.assert_allclose(ours, other.decode(place, 2.0), rtol=1e-5, atol=1e-4)
        assert other.arrays["block_digest"][place].tolist() == [other.digest(place, rows) for rows in other.blocks()]
    assert other.fidelity()["num_labels"] == other.manifest["fidelity"]["num_labels"] == 2 * SAMPLES


def test_numbers_in_the_manifest_are_written_once_and_for_all(made: Made) -> None:
    def need_same(token: str) -> float:
        assert json.dumps(float(token)) == token
        return float(token)

    json.loads((made.path / "zarr.json").read_text(), parse_float=need_same)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_samples", 39), ("complete", False), ("version", 3), ("temperature", 1), ("class_names", ["é"])],
)
def test_a_manifest_that_was_changed_is_refused(
    tmp_path: Path, tensorstore: ModuleType, key: str, value: object
) -> None:
    path = CASES["none"].make(tmp_path)
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"][key] = value
    (path / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(RefusedError):
        OtherReader(path, tensorstore)
    with pytest.raises(StoreError):
        StoreReader(path)


@pytest.mark.parametrize("name", ["float16", "uint8", "top 2", "sampled"])
def test_a_lost_block_reads_as_the_fill_value_and_a_damaged_one_shows(
    tmp_path: Path, tensorstore: ModuleType, name: str
) -> None:
    path = CASES[name].make(tmp_path)
    array = next(iter(OtherReader(path, tensorstore).fields()))
    shard = max(file for file in (path / array / "c/1").rglob("*") if file.is_file())
    content = shard.read_bytes()
    shard.unlink()
    other = OtherReader(path, tensorstore)
    other.decode(0, other.t0)
    with pytest.raises(RefusedError, match="was never written"):
        other.decode(1, other.t0)
    for place in (0, len(content) // 2, len(content) - 1):
        shard.write_bytes(bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]]))
        with pytest.raises(ValueError, match=r"Digest mismatch|ZSTD|Zstd"):
            OtherReader(path, tensorstore)


@pytest.mark.parametrize("array", ["sample_key", "fidelity_counts", "prior_codes", "canary_pixels"])
def test_a_lost_array_is_refused(tmp_path: Path, tensorstore: ModuleType, array: str) -> None:
    path = CASES["top 2"].make(tmp_path)
    shutil.rmtree(path / array / "c")
    with pytest.raises(RefusedError, match=array):
        OtherReader(path, tensorstore)


def test_philox_gives_the_numbers_of_the_document() -> None:
    (stated,) = re.findall(r"all-zero key and counter give ((?:[0-9a-f]{8}[, ]*){4})", DOCUMENT)
    assert [f"{word:08x}" for word in philox((0, 0, 0, 0), (0, 0))] == re.findall("[0-9a-f]{8}", stated)


@pytest.mark.parametrize("seed", [0, 2**64 - 1, 12345678901234567890])
@pytest.mark.parametrize(("pad_px", "probability"), [(0, 0.5), (1, 0.0), (4, 0.3)])
def test_views_are_rendered_alike(seed: int, pad_px: int, probability: float) -> None:
    operations = (PadCrop(pad_px=pad_px), FlipHorizontal(probability=probability))
    spec, images = ViewSpec(seed=seed, plain_first=False, operations=operations), make_split(30, shape=(3, 9, 7)).inputs
    ids = sample_ids(images.numpy())
    assert [sample_id(image) for image in images.numpy()] == ids.tolist()
    for view in (0, 1, 2**32 - 1):
        others = np.stack([render_view(spec.to_dict(), image, view) for image in images.numpy()])
        np.testing.assert_array_equal(render(images, spec.draw(ids, view), spec).numpy(), others)


def test_canaries_of_mixed_views_are_rendered_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = (FlipHorizontal(probability=0.5), CutMix(alpha=1.0, probability=0.9))
    mixed = ViewSpec(seed=7, plain_first=True, operations=operations)
    monkeypatch.setattr(sys.modules[__name__], "SPEC", mixed)
    store = StoreReader(CASES["none"].make(tmp_path))
    images = {sample_id(image): image for image in CASES["none"].split().inputs.numpy()}
    ids, views = list(images), store.manifest.views
    for sample, view, pixels in zip(
        store.canaries.sample_ids, store.canaries.views, store.canaries.rendered, strict=True
    ):
        first = ids.index(int(sample)) // BLOCK * BLOCK
        partner = partner_of(views, ids[first : first + BLOCK], int(sample), int(view))
        both = [render_view(views, images[each], int(view)) for each in (int(sample), partner)]
        mixed_view = mix(views, both[0], both[1], int(sample), int(view))[0]
        np.testing.assert_array_equal(pixels_kept(views, mixed_view, int(sample), int(view), len(pixels[0])), pixels)
