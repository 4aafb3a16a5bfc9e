"""Tar files in WebDataset's layout: members that share a name up to its first dot are one sample.

References:
    Alex Aizman, Gavin Maltby, Thomas Breuel, "High Performance I/O For Large Scale Deep Learning",
    2020, arXiv 2001.01858, section 3.
"""

import json
import tarfile
import zlib
from collections.abc import Collection, Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.core.progress import say
from pipeline.data.dataset import SPLITS
from pipeline.data.formats import IMAGE_SUFFIXES
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.clutter import is_clutter
from pipeline.preparation.sources.files import find_files
from pipeline.preparation.sources.inputs import check_name
from pipeline.preparation.sources.labels import Classes, ClassList, files_of, read_classes

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
Sample = dict[str, bytes | None]  # content by extension; None where it was not read


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WebDataset(Source):
    """The samples of a file, a folder or a pattern of tars (`shards/train-{0000..0099}.tar`), in
    the order of their names.

    A label is the content of the member `label_extension`: a name or a number, or (with
    `label_key`) an entry of its JSON. Samples without that member have no label. Labels are read
    first, in a pass of their own over the tars."""

    path: str
    image_extensions: tuple[str, ...] = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
    label_extension: str = "cls"
    label_key: str | None = None
    classes: ClassList = None

    kind: ClassVar[str] = "webdataset"

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._survey[0]

    def count(self, raw: Path) -> int:
        return sum(self._survey[1])

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        classes = read_classes(self.classes)
        wanted = {*self.image_extensions, self.label_extension}
        for (split, key, tar), count in zip(self._tars, self._survey[1], strict=True):
            if start < count:
                for name, sample in _samples(tar, wanted, start):
                    where = f"{key}:{name}"
                    content = sample[self._image(sample, where)]
                    assert content is not None, "images were asked for"
                    yield RawImage(split, self._label(sample, classes, where), where, content)
            start = max(start - count, 0)

    def files(self) -> Iterator[str]:
        yield from files_of(self.classes)
        yield from (str(tar) for _, _, tar in self._tars)

    @cached_property
    def _tars(self) -> list[tuple[str, str, Path]]:
        """The split, key and path of every tar."""
        root, files = find_files(self.path, _SUFFIXES)
        return [(split, file.relative_to(root).as_posix(), file) for split, file in files]

    @cached_property
    def _survey(self) -> tuple[tuple[str, ...], list[int]]:
        """The class names, and the number of samples in every tar."""
        classes, counts = read_classes(self.classes), []
        found: dict[str, set[str | None]] = {split: set() for split in SPLITS}
        say(f"{self.path}: reading the labels of {len(self._tars):,} tars")
        for split, key, tar in self._tars:
            counts.append(0)
            for name, sample in _samples(tar, {self.label_extension}):
                self._image(sample, f"{key}:{name}")
                found[split].add(self._label(sample, classes, f"{key}:{name}"))
                counts[-1] += 1
        return classes.in_order(found, self.path), counts

    def _image(self, sample: Sample, where: str) -> str:
        """Returns the extension of a sample's image; raises SourceError unless there is one."""
        images = [extension for extension in sample if extension in self.image_extensions]
        if len(images) != 1:
            found = f"{len(images)} images among {', '.join(sample)}"
            fix = "set `image_extensions` in the source's settings"
            raise SourceError(where, found, expected=f"one of {', '.join(self.image_extensions)}", fix=fix)
        return images[0]

    def _label(self, sample: Sample, classes: Classes, where: str) -> str | None:
        content = sample.get(self.label_extension)
        if content is None or self.label_key is None:
            return classes.name(content, where)
        try:
            record = json.loads(content)
        except ValueError as error:
            raise SourceError(f"{where}.{self.label_extension}", f"not JSON ({error})") from None
        if not isinstance(record, dict) or self.label_key not in record:
            found = f"no entry {self.label_key!r}"
            fix = "set `label_key` in the source's settings"
            raise SourceError(f"{where}.{self.label_extension}", found, fix=fix)
        return classes.name(record[self.label_key], where)


def _samples(tar: Path, wanted: Collection[str], start: int = 0) -> Iterator[tuple[str, Sample]]:
    """Yields name and content of the samples of a tar from `start` on; content of wanted extensions
    only.

    Content is read when its member is met, because there is no cheap way back in a compressed tar.
    """
    for (_, name), members in groupby(_members(tar, wanted, start), key=lambda member: member[:2]):
        sample: Sample = {}
        for _, _, extension, content in members:
            if extension in sample:
                raise SourceError(f"{tar}:{name}", f"two members with the extension {extension!r}", expected="one")
            sample[extension] = content
        yield name, sample


def _members(tar: Path, wanted: Collection[str], start: int) -> Iterator[tuple[int, str, str, bytes | None]]:
    """Yields number and name of each file's sample, the file's extension and, if that is wanted,
    its content.
    """
    mode: Literal["r:", "r:gz"] = "r:" if tar.suffix == ".tar" else "r:gz"
    number, last = -1, None
    try:
        with tarfile.open(tar, mode) as file:
            while (member := file.next()) is not None:
                file.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all, a kilobyte for each
                folder, slash, name = member.name.rpartition("/")
                if not member.isreg() or name.startswith(".") or any(map(is_clutter, member.name.split("/"))):
                    continue
                check_name(member.name, tar)
                stem, _, extension = name.partition(".")
                sample = folder + slash + stem
                number, last = number + (sample != last), sample
                if number >= start:
                    extension = extension.lower()
                    yield number, sample, extension, _content(file, member) if extension in wanted else None
            _check_end(file)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise SourceError(tar, f"not a sound tar ({error})", fix="fetch it again") from None


def _content(file: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = file.extractfile(member)
    assert content is not None, "it is a file"
    return content.read()


def _check_end(file: tarfile.TarFile) -> None:
    """Raises ReadError unless a block of zeros ends the tar: tarfile takes any damaged header for
    the end.
    """
    assert file.fileobj is not None, "it is open"
    file.fileobj.seek(file.offset)
    block = file.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut short")
    if any(block):
        raise tarfile.ReadError(f"a damaged header at byte {file.offset:,}")
