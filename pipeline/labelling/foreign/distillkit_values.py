"""DistillKit's compressed log-probabilities, decoded.

A label is bytes: the `exact_k` largest values as numbers; the coefficients of a polynomial through
the others; for each of the bins that follow, a scale and whole numbers of some bits, which are
added to the polynomial. With delta encoding all these are differences, to be added up. Whole
numbers stand bit by bit, the highest bit first.

References:
    github.com/arcee-ai/DistillKit, README "Logit Compression", distillkit/compression/config.py and
    monotonic_logprobs.py.
"""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT

NumberKind = Literal["float16", "bfloat16", "float32", "float64"]
Term = Annotated[int, Field(ge=-16, le=64)] | Literal["sqrt", "exp"]
_Count = Annotated[int, Field(ge=0, le=1 << 20)]
_SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Bin:
    """A bin: so many whole numbers of some bits, with one scale."""

    scale_dtype: NumberKind
    element_bits: Annotated[int, Field(ge=1, le=32)]
    num_elements: _Count


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Compression:
    """The settings in compression_config.yaml: `d` outputs, of which a label keeps `k`."""

    d: Annotated[int, Field(ge=2, le=1 << 24)]
    k: Annotated[int, Field(ge=1, le=1 << 16)]
    exact_k: _Count
    residual_bins: tuple[Bin, ...]
    exact_dtype: NumberKind = "float32"
    polynomial_terms: tuple[Term, ...] | None = None
    term_dtype: NumberKind = "float32"
    delta_encoding: bool = True
    error_diffusion: bool = False
    normalize_t: bool = False

    @property
    def index_bits(self) -> int:
        """The bits of an output's number; rounded as DistillKit rounds them, in float32."""
        return int(np.ceil(np.log2(np.float32(self.d))))

    @property
    def value_bytes(self) -> int:
        """The bytes of a label's values."""
        exact = self.exact_k * _SIZES[self.exact_dtype]
        terms = len(self.polynomial_terms or ()) * _SIZES[self.term_dtype]
        bins = (
            _SIZES[each.scale_dtype] + -(-each.element_bits * each.num_elements // 8) for each in self.residual_bins
        )
        return exact + terms + sum(bins)

    @property
    def index_bytes(self) -> int:
        """The bytes of a label's outputs."""
        return -(-self.k * self.index_bits // 8)

    @property
    def fault(self) -> str | None:
        """The reason why no label can be of these settings, or None."""
        approximated = self.k - self.exact_k
        if self.exact_k > self.k or self.k > self.d:
            return f"exact_k {self.exact_k}, k {self.k}, d {self.d}: they must not fall"
        if sum(each.num_elements for each in self.residual_bins) > approximated:
            return f"bins of more than the {approximated} values that are not exact"
        if approximated and not (self.polynomial_terms or self.residual_bins):
            return f"{approximated} values neither exact nor in a polynomial or a bin"
        return None


def outputs_of(packed: UInt8[np.ndarray, "labels bytes"], settings: Compression) -> Int64[np.ndarray, "labels kept"]:
    """Returns the outputs that labels keep."""
    return _whole_numbers(packed, settings.index_bits, settings.k)


def log_probs_of(
    packed: UInt8[np.ndarray, "labels bytes"], settings: Compression
) -> Float64[np.ndarray, "labels kept"]:
    """Returns the log-probabilities of the outputs that labels keep."""
    exact, rest = _numbers(packed, settings.exact_dtype, settings.exact_k)
    fitted = np.zeros((len(packed), settings.k - settings.exact_k))
    if settings.polynomial_terms:
        coefficients, rest = _numbers(rest, settings.term_dtype, len(settings.polynomial_terms))
        fitted += coefficients @ _powers(settings.polynomial_terms, fitted.shape[1], settings.normalize_t)
    start = 0
    for each in settings.residual_bins:
        scale, rest = _numbers(rest, each.scale_dtype, 1)
        size = -(-each.element_bits * each.num_elements // 8)
        numbers = _whole_numbers(rest[:, :size], each.element_bits, each.num_elements)
        fitted[:, start : start + each.num_elements] += _centred(numbers, each.element_bits) * scale
        start, rest = start + each.num_elements, rest[:, size:]
    values = np.concatenate([exact, fitted], axis=1)
    return values.cumsum(axis=1) if settings.delta_encoding else values


def _powers(terms: tuple[Term, ...], count: int, normalize_t: bool) -> Float64[np.ndarray, "terms count"]:
    """Returns every term at each place of the values that are approximated."""
    places = np.linspace(0, 1, count) if normalize_t else np.arange(count, dtype=np.float64)
    named = {"sqrt": np.sqrt, "exp": np.exp}
    with np.errstate(all="ignore"):  # what overflows is refused as no number
        return np.stack([named[term](places) if isinstance(term, str) else places ** float(term) for term in terms])


def _centred(numbers: Int64[np.ndarray, "labels some"], bits: int) -> Int64[np.ndarray, "labels some"]:
    """Returns numbers with a sign; a single bit is -1 or 1."""
    return numbers * 2 - 1 if bits == 1 else numbers - (1 << (bits - 1))


def _numbers(
    packed: UInt8[np.ndarray, "labels bytes"], kind: NumberKind, count: int
) -> tuple[Float64[np.ndarray, "labels some"], UInt8[np.ndarray, "labels rest"]]:
    """Returns the numbers at the beginning of bytes, and the bytes after them."""
    size = _SIZES[kind] * count
    own = np.ascontiguousarray(packed[:, :size])
    if kind == "bfloat16":  # the upper half of a float32
        numbers = (own.view("<u2").astype("<u4") << 16).view("<f4")
    else:
        numbers = own.view(np.dtype(kind).newbyteorder("<"))
    return numbers.astype(np.float64), packed[:, size:]


def _whole_numbers(
    packed: UInt8[np.ndarray, "labels bytes"], bits: int, count: int
) -> Int64[np.ndarray, "labels some"]:
    """Returns whole numbers of some bits each, the highest bit first."""
    each = np.unpackbits(packed, axis=1, count=bits * count).reshape(len(packed), count, bits)
    return each.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64))
