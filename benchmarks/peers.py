"""Other systems' layouts of one stored label, byte for byte, and the label that a student decodes.

A layout takes the teacher's exact log-probabilities at temperature 1 to plain little-endian records
and back. The part of a record that describes the view (a seed, or a crop and a flip) is filled with
random numbers, since it takes its bytes and does not compress; decoding ignores it.

References:
    Kan Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", 2022,
    arXiv 2207.10666, section 3.1 (microsoft/Cream).
    Zhiqiang Shen, Eric Xing, "A Fast Knowledge Distillation Framework for Visual Recognition",
    2021, arXiv 2112.01528, section 3 (szq0214/FKD).
    Zeyuan Yin, Eric Xing, Zhiqiang Shen, "Squeeze, Recover and Relabel", 2023, arXiv 2306.13092
    (logits in 16 bits).
    Lingao Xiao, Yang He, "Soft Label Pruning and Quantization for Large-Scale Dataset
    Distillation", 2026, arXiv 2604.18135 (LPQLD: the ten largest logits in 16 bits).
"""

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

LOWEST_FLOAT16 = -65504.0


class Layout(ABC):
    """The record of one system. Subclasses are frozen dataclasses."""

    name: str

    @property
    @abstractmethod
    def record_bytes(self) -> int:
        """The bytes of one label, uncompressed."""

    @abstractmethod
    def encode(self, log_probs: Float[torch.Tensor, "labels classes"]) -> UInt8[np.ndarray, "labels record_bytes"]:
        """Returns records of log-probabilities at temperature 1."""

    @abstractmethod
    def decode(
        self, records: UInt8[np.ndarray, "labels record_bytes"], num_classes: int
    ) -> Float[torch.Tensor, "labels classes"]:
        """Returns finite, normalised float32 log-probabilities, from the records alone."""


@dataclass(frozen=True)
class TopK(Layout):
    """The `kept` largest classes with their probabilities; the others share the rest evenly.

    Rounded probabilities often add up to 1 or more. The other classes then get half a step of the
    format just below 1 together (2^-12 with 16 bits), so that none has a probability of 0.

    `view` are the fields in front that describe the view, in numpy's notation.
    """

    name: str
    kept: int
    view: tuple[tuple[str, str, int], ...]
    class_format: str
    probability_format: str

    @property
    def record(self) -> np.dtype[Any]:
        """The fields of a record, without padding."""
        fields = [(name, kind, (count,)) for name, kind, count in self.view]
        fields += [
            ("classes", self.class_format, (self.kept,)),
            ("probabilities", self.probability_format, (self.kept,)),
        ]
        return np.dtype(fields)

    @property
    def record_bytes(self) -> int:
        return self.record.itemsize

    def encode(self, log_probs: torch.Tensor) -> np.ndarray:
        top = log_probs.double().topk(self.kept, dim=1)
        records = np.zeros(len(log_probs), self.record)
        records["classes"] = top.indices.numpy()
        records["probabilities"] = top.values.exp().numpy()
        numbers = np.random.default_rng(zlib.crc32(records.tobytes()))  # others for other labels
        for name, kind, count in self.view:
            shape, dtype = (len(log_probs), count), np.dtype(kind)
            if dtype.kind == "f":
                records[name] = numbers.random(shape)
            else:
                records[name] = numbers.integers(0, 2 if name == "flip" else np.iinfo(dtype).max, shape)
        return records.view(np.uint8).reshape(len(records), self.record_bytes)

    def decode(self, records: np.ndarray, num_classes: int) -> torch.Tensor:
        fields = np.ascontiguousarray(records).view(self.record)[:, 0]
        classes = torch.from_numpy(fields["classes"].astype(np.int64)).clamp(0, num_classes - 1)
        kept = torch.from_numpy(fields["probabilities"].astype(np.float64))
        least = float(np.finfo(self.probability_format).eps) / 4
        rest = (1 - kept.sum(dim=1, keepdim=True)).clamp(min=least) / max(num_classes - self.kept, 1)
        # A kept probability that was rounded to 0 counts as one of the rest.
        probs = rest.repeat(1, num_classes).scatter(1, classes, torch.where(kept > 0, kept, rest))
        return (probs / probs.sum(dim=1, keepdim=True)).log().float()


@dataclass(frozen=True)
class TopLogits(TopK):
    """The `kept` largest raw logits; the label is their softmax, and all other classes have none.

    Where a class of the teacher is missing, the KL is infinite. So that there is a figure, the
    others get what a float16 can't tell from nothing just below 1, as in `TopK`.
    """

    def encode(self, log_probs: torch.Tensor) -> np.ndarray:
        records = super().encode(log_probs).view(self.record)[:, 0]
        records["probabilities"] = log_probs.topk(self.kept, dim=1).values.numpy()
        return records.view(np.uint8).reshape(len(records), self.record_bytes)

    def decode(self, records: np.ndarray, num_classes: int) -> torch.Tensor:
        logits = np.ascontiguousarray(records).view(self.record)[:, 0]["probabilities"].astype(np.float64)
        kept = torch.softmax(torch.from_numpy(logits), dim=1)
        classes = np.ascontiguousarray(records).view(self.record)[:, 0]["classes"].astype(np.int64)
        least = float(np.finfo(np.float16).eps) / 4 / max(num_classes - self.kept, 1)
        probs = torch.full((len(records), num_classes), least, dtype=torch.float64)
        probs.scatter_(1, torch.from_numpy(classes).clamp(0, num_classes - 1), kept)
        return (probs / probs.sum(dim=1, keepdim=True)).log().float()


@dataclass(frozen=True)
class DenseFloat16(Layout):
    """The logits of all classes in 16 bits, without the view."""

    num_classes: int
    name: str = "fp16 logits"

    @property
    def record_bytes(self) -> int:
        return 2 * self.num_classes

    def encode(self, log_probs: torch.Tensor) -> np.ndarray:
        halves = log_probs.clamp(min=LOWEST_FLOAT16).half().numpy().astype("<f2")
        return halves.view(np.uint8).reshape(len(halves), self.record_bytes)

    def decode(self, records: np.ndarray, num_classes: int) -> torch.Tensor:
        logits = np.ascontiguousarray(records).view("<f2").astype(np.float32)
        return torch.log_softmax(torch.from_numpy(logits), dim=1)


def tinyvit(kept: int = 10) -> TopK:
    """Returns TinyViT's layout.

    It holds the view's seed, classes as int16 (at most 32,767 of them), and float16 probabilities.
    """
    return TopK(f"TinyViT top-{kept}", kept, (("seed", "<i4", 1),), "<i2", "<f2")


def fkd(kept: int = 5, bits: Literal[16, 32] = 32) -> TopK:
    """Returns FKD's layout.

    It holds crop box and flip, then classes and probabilities, all of them as floats; the rest is
    spread by "marginal smoothing".

    With 16 bits the numbers of classes above 2,048 are rounded, as FKD does.
    """
    float_format = f"<f{bits // 8}"
    view = (("crop", float_format, 4), ("flip", "u1", 1))
    return TopK(f"FKD top-{kept} fp{bits}", kept, view, float_format, float_format)


def lpqld(kept: int = 10) -> TopLogits:
    """Returns the layout of LPQLD's labels: logits as float16 beside classes as int16."""
    return TopLogits(f"LPQLD top-{kept} logits", kept, (), "<i2", "<f2")


def peers(num_classes: int) -> list[Layout]:
    """Returns all layouts that apply to so many classes, by size."""
    layouts: list[Layout] = [
        lpqld(10),
        tinyvit(10),
        *(fkd(kept, bits) for kept in (5, 10) for bits in (16, 32)),
        DenseFloat16(num_classes),
    ]
    fitting = [layout for layout in layouts if not isinstance(layout, TopK) or layout.kept < num_classes]
    return sorted(fitting, key=lambda layout: layout.record_bytes)
