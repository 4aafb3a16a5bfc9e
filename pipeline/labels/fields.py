"""Labels as a store keeps them, rows of fields: made of logits, measured against these, chosen
from, digested.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt64

from pipeline.labels.canaries import CANARY_ARRAYS
from pipeline.labels.encodings import NO_ANCHORS, Codec, Encoding, LabelSpace
from pipeline.labels.fidelity import Fidelity
from pipeline.labels.manifest import VERSION

#: The array that names a store's samples, by the version of its format.
SAMPLES_ARRAYS = {1: "sample_id", 2: "sample_key"}

_PIECE_ENTRIES, _DEVICE_ENTRIES = 1 << 16, 1 << 22
_MAP_ENTRIES = 1 << 20  # of maps, of which most encodings keep a small part: a third of the time of fewer
Labels = dict[str, Shaped[torch.Tensor, "labels ..."]]
SomeLabels = dict[str, Shaped[torch.Tensor, "some ..."]]  # beside others of another number
Anchors = Mapping[str, Shaped[torch.Tensor, "rows ..."]]


def block_digest(labels: Mapping[str, np.ndarray]) -> int:
    """Returns 64 bits of a block's content, never 0: BLAKE2b over its fields' bytes
    (little-endian), fields by name.
    """
    return int.from_bytes(_digest(labels, 8), "little") or 1


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns 32 hex digits of the content of what stands beside the labels, for the manifest."""
    return _digest(arrays, 16).hex()


def beside_labels(encoding: Encoding, space: LabelSpace, version: int = VERSION) -> list[str]:
    """Returns the names of the arrays that a store has beside labels, anchors and fidelity."""
    digests = {"block_digest": encoding.fields(space), "anchor_digest": encoding.anchors(space)}
    digested = [name for name, arrays in digests.items() if arrays]
    return [SAMPLES_ARRAYS[version], *CANARY_ARRAYS.values(), *encoding.tables(space), *digested]


def _digest(arrays: Mapping[str, np.ndarray], num_bytes: int) -> bytes:
    digest = hashlib.blake2b(digest_size=num_bytes)
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<"))
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.digest()


def encode_logits(
    codec: Codec,
    logits: Float[torch.Tensor, "rows classes *grid"],
    sample_ids: UInt64[np.ndarray, " rows"],
    view: int,
    anchors: Anchors = NO_ANCHORS,
) -> Labels:
    """Returns labels of finite logits, on the CPU, with the anchors that they stand on."""
    parts: list[Labels] = []
    signal = codec.space.signal
    there = {name: values.to(logits.device) for name, values in anchors.items()}
    for rows in pieces(logits):
        values = signal.quick_values(logits[rows], codec.space.temperature)
        beside = {name: values[rows] for name, values in there.items()}
        encoded = codec.encode(values, sample_ids[rows], view, beside)
        parts.append({name: values.cpu() for name, values in encoded.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} | dict(anchors)


def measure_labels(codec: Codec, logits: Float[torch.Tensor, "rows classes *grid"], labels: Labels) -> Fidelity:
    """Returns how far labels are from the logits that they were made of, at every declared
    temperature that they serve.
    """
    served = [t for t in codec.space.temperatures if codec.serves(t)]
    parts, signal = [], codec.space.signal
    for rows in pieces(logits):
        some = {name: values[rows] for name, values in labels.items()}
        kept = codec.kept(logits[rows].double(), some)
        exact = {t: signal.quick_values(kept, t) for t in served}
        parts.append(Fidelity.of(exact, {t: codec.decode(some, t) for t in served}, signal))
    return Fidelity.merge(parts)


def labels_of(
    codec: Codec,
    logits: Float[torch.Tensor, "rows classes *grid"],
    sample_ids: UInt64[np.ndarray, " rows"],
    view: int,
    anchors: Anchors = NO_ANCHORS,
) -> tuple[Labels, Fidelity]:
    """Returns labels, on the CPU, and how far they are from the logits: measured on the device of
    the logits.
    """
    labels = encode_logits(codec, logits, sample_ids, view, anchors)
    there = {name: values.to(logits.device) for name, values in labels.items()}
    return labels, measure_labels(codec, logits, there)


def pieces(logits: torch.Tensor) -> Iterator[slice]:
    """Yields ranges of rows that fit a processor's cache: with 1000 classes, a block at once takes
    6 times as long. A device gets fewer, larger ones.
    """
    of_maps = logits.ndim == 4
    here = _MAP_ENTRIES if of_maps else _PIECE_ENTRIES
    entries = here if logits.device.type == "cpu" else _DEVICE_ENTRIES
    size = max(1, entries // math.prod(logits.shape[1:]))
    for start in range(0, len(logits), size):
        yield slice(start, start + size)


def gather(labels: Labels, rows: Iterable[int] | np.ndarray | torch.Tensor) -> SomeLabels:
    """Returns some rows of labels, in that order."""
    index = torch.as_tensor(np.asarray(rows))
    return {name: values[index] for name, values in labels.items()}


def as_slice(rows: range) -> slice:
    """Returns the same rows, for indexing."""
    return slice(rows.start, rows.stop)
