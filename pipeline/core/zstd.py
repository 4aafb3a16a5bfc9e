"""The compression of chunks: zstd, and Zarr's codec of it, which unpacks a chunk to the size that
its array gives it, and no further.
"""

import asyncio
from math import prod

import numpy as np
import zarr
from jaxtyping import Shaped, UInt8
from numcodecs.zstd import Zstd
from zarr.codecs import ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.registry import register_codec

LEVEL = 3
_SIZE_BYTES = (0, 2, 4, 8)  # of the content's size in a frame's header, by its two highest bits


class BoundedZstd(ZstdCodec):
    """The codec `zstd` of arrays here, where it follows `bytes`: a chunk has exactly its entries'
    bytes. Where it states another size, ValueError is raised before room for it is taken.
    """

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._unpack, chunk_bytes, chunk_spec)

    def _unpack(self, packed: Buffer, spec: ArraySpec) -> Buffer:
        size = prod(spec.shape) * spec.dtype.to_native_dtype().itemsize
        return spec.prototype.buffer.from_bytes(unpack(packed.as_numpy_array(), size).data)


def pack(content: Shaped[np.ndarray, "..."]) -> bytes:
    """Returns the zstd frame that Zarr makes of a chunk."""
    packed: bytes = Zstd(LEVEL).encode(content)
    return packed


def unpack(content: UInt8[np.ndarray, " packed"], size: int) -> UInt8[np.ndarray, " {size}"]:
    """Returns the `size` bytes that a zstd frame holds; raises ValueError where it holds another
    number.
    """
    if (stated := content_size(content[:16].tobytes())) not in (None, size):
        raise ValueError(f"a chunk of {stated:,} bytes in place of {size:,}")
    room = np.empty(size, np.uint8)
    Zstd().decode(content, room)  # raises where more comes out, or less
    return room


def content_size(header: bytes) -> int | None:
    """Returns the size of the content that the header of a zstd frame states; None where it states
    none.

    References:
        Yann Collet, Murray Kucherawy, "Zstandard Compression and the 'application/zstd' Media
        Type", 2021, RFC 8878, section 3.1.1.1.
    """
    flags = header[4] if len(header) > 4 else 0
    is_single, size_bytes = bool(flags & 0x20), _SIZE_BYTES[flags >> 6]
    size_bytes = 1 if is_single and not size_bytes else size_bytes
    start = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    stated = int.from_bytes(header[start : start + size_bytes], "little")
    return (stated + 256 if size_bytes == 2 else stated) if size_bytes else None


def use_bounded_zstd() -> None:
    """Has Zarr unpack by `BoundedZstd` wherever a description names `zstd`."""
    register_codec("zstd", BoundedZstd)
    zarr.config.set({"codecs.zstd": f"{BoundedZstd.__module__}.{BoundedZstd.__qualname__}"})
