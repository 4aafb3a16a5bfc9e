"""A packed store: one zip file with a store's files, uncompressed (docs/store-format.md).

A file may come from anyone. Its first member is the store's description, from which follows how
large the file may be; members are asked for by the names that a store has, and never more is read
than the file holds.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo
from zlib import crc32

from pipeline.core.array_files import GROUP_BYTES
from pipeline.core.arrays import DESCRIPTION
from pipeline.core.errors import StoreError
from pipeline.core.plain_files import odd_file
from pipeline.labels.manifest import Manifest, parse_manifest
from pipeline.labels.mirrored import FetchError

SUFFIX = ".zip"
CARD = "README.md"
FIX = "pack the store again (`potstill labels pack`), or get the file again"

_MEMBER = re.compile(r"zarr\.json|README\.md|[A-Za-z0-9_]+/(zarr\.json|c(/\d{1,19}){0,8})")
_HEAD = struct.Struct("<4s5H3L2H")  # of a member: PKWARE's APPNOTE.TXT, section 4.3.7
_SIGN, _ENCRYPTED, _SIZE_FOLLOWS = b"PK\3\4", 1, 8
_PIECE_BYTES = 1 << 16
_SPARE_BYTES = 64 << 20  # for descriptions, the names of members and a card


def is_packed(place: Path | str) -> bool:
    """Returns whether a path or URL is that of a packed store, by its name."""
    return str(place).rstrip("/").lower().endswith(SUFFIX) and not Path(place).is_dir()


def first_member(pieces: Iterable[bytes]) -> bytes:
    """Returns the description of a store, the first member of a packed one, and reads no further.

    Raises ValueError where this is no packed store.
    """
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) < _HEAD.size + len(DESCRIPTION):
            continue
        begin, end, checksum = _place(bytes(content[: _HEAD.size + len(DESCRIPTION)]))
        if len(content) >= end:
            member = bytes(content[begin:end])
            if crc32(member) != checksum:
                raise ValueError(f"is damaged: its {DESCRIPTION} does not match its checksum")
            return member
    raise ValueError("is cut off, or no packed store")


def _place(head: bytes) -> tuple[int, int, int]:
    """Returns where the content of a first member begins and ends, and its checksum."""
    sign, _, flags, method, _, _, checksum, packed, size, name_bytes, extra_bytes = _HEAD.unpack_from(head)
    name = head[_HEAD.size : _HEAD.size + name_bytes]
    plain = method == ZIP_STORED and packed == size and not flags & (_ENCRYPTED | _SIZE_FOLLOWS)
    if sign != _SIGN or name != DESCRIPTION.encode() or not plain:
        raise ValueError(f"is no packed store: it does not begin with an uncompressed {DESCRIPTION}")
    if size > GROUP_BYTES:
        raise ValueError(f"has a {DESCRIPTION} of {size:,} bytes, of at most {GROUP_BYTES:,}")
    begin = _HEAD.size + name_bytes + extra_bytes
    return begin, begin + size, checksum


def manifest_of(description: bytes, where: object) -> Manifest:
    """Returns the manifest in a description; raises StoreError where there is none of use."""
    try:
        attributes = json.loads(description)["attributes"]
        return parse_manifest(dict(attributes), where, FIX)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise StoreError(where, f"its {DESCRIPTION} is no store's", fix=FIX) from None


def usual_bytes(manifest: Manifest) -> int:
    """Returns the bytes of the arrays of a store, as its manifest states them."""
    return round((manifest.label_bytes or 0) * manifest.num_labels)


def most_bytes(manifest: Manifest) -> int:
    """Returns the bytes that a packed store may have: arrays that were written again may be larger
    than stated.
    """
    return 2 * usual_bytes(manifest) + _SPARE_BYTES


class PackedFile:
    """A packed store on this disk.

    Raises StoreError where it is none.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        try:
            self.description = self._read_description()
            self._members = self._read_index()
        except (StoreError, MemoryError, OSError):
            raise
        except Exception as error:  # zipfile raises many kinds for a damaged file
            raise StoreError(where, str(error), fix=FIX) from None

    def _read_description(self) -> bytes:
        if not self._path.exists():
            raise StoreError(self._where, "no such file", fix="fix the path")
        if found := odd_file(self._path):
            raise StoreError(self._where, found, expected="a file", fix="fix the path")
        with self._path.open("rb") as file:
            description = first_member(iter(partial(file.read, _PIECE_BYTES), b""))
        self._size, most = self._path.stat().st_size, most_bytes(manifest_of(description, self._where))
        if self._size > most:
            raise ValueError(f"has {self._size:,} bytes, of at most {most:,} that its manifest lets expect")
        return description

    def _read_index(self) -> dict[str, ZipInfo]:
        """Returns the members by name; raises ValueError where one is no file of a store, is packed
        in another way or claims bytes that the file does not have.
        """
        with ZipFile(self._path) as file:
            members = file.infolist()
        index: dict[str, ZipInfo] = {}
        for member in members:
            if not _MEMBER.fullmatch(member.orig_filename):
                raise ValueError(f"holds {member.orig_filename!r}, which is no file of a store")
            if member.filename in index:
                raise ValueError(f"holds {member.filename} twice")
            if member.compress_type or member.flag_bits & _ENCRYPTED or member.compress_size != member.file_size:
                raise ValueError(f"its {member.filename} is compressed or encrypted")
            index[member.filename] = member
        if sum(member.file_size for member in members) > self._size:
            raise ValueError(f"its members claim more than the {self._size:,} bytes that it has")
        return index

    @property
    def names(self) -> list[str]:
        """The names of its members."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """Returns the content of a member; raises FetchError where it is missing or damaged."""
        where = f"{self._where}/{name}"
        if name not in self._members:
            raise FetchError(where, "is missing in the packed file", fix=FIX)
        member = self._members[name]
        with self._path.open("rb") as file:  # at each call: processes that fork share an open file's place
            file.seek(member.header_offset)
            head = file.read(_HEAD.size)
            if len(head) == _HEAD.size and head.startswith(_SIGN):
                file.seek(sum(_HEAD.unpack(head)[-2:]), 1)
            content = file.read(member.file_size)
        if crc32(content) != member.CRC or len(content) != member.file_size:
            raise FetchError(where, "is damaged in the packed file (its checksum does not match)", fix=FIX)
        return content


def members_of(names: Iterable[str]) -> Iterator[str]:
    """Yields the names of a packed store's members in their order."""
    yield from (DESCRIPTION, CARD)
    yield from sorted(set(names) - {DESCRIPTION, CARD})
