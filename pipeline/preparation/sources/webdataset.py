"""Tar files in WebDataset's layout: members that share a name up to its first dot are one sample.

References:
    Alex Aizman, Gavin Maltby, Thomas Breuel, "High Performance I/O For Large Scale Deep Learning",
    2020, arXiv 2001.01858, section 3.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Megabytes
from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError, listed
from pipeline.core.progress import say
from pipeline.data.formats import IMAGE_SUFFIXES
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.files import find_files
from pipeline.preparation.sources.label_columns import Separator
from pipeline.preparation.sources.label_sets import LabelSets
from pipeline.preparation.sources.labels import Classes, ClassList, files_of, read_classes
from pipeline.preparation.sources.survey import Survey
from pipeline.preparation.sources.tars import Tar

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
Sample = dict[str, bytes | None]  # content by extension; None where it was not read


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WebDataset(Source):
    """The samples of a file, a folder or a pattern of tars (`shards/train-{0000..0099}.tar`), in
    the order of their names.

    A label is the content of the member `label_extension`: a name or a number, or (with
    `label_key`) an entry of its JSON. Samples without that member have no label. Labels are sets
    with `separator`, and where the first one is a list of names or a map of names to 1 or 0. They
    are read first, in a pass of their own over the tars. `name_ends: last dot` is for names with
    dots in them, such as `v1.2_0001.jpg`. `largest_mb` is the most that a member has."""

    path: str
    image_extensions: tuple[str, ...] = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
    label_extension: str = "cls"
    label_key: str | None = None
    separator: Separator | None = None
    name_ends: Literal["first dot", "last dot"] = "first dot"
    classes: ClassList = None
    largest_mb: Megabytes = 1024

    kind: ClassVar[str] = "webdataset"

    @cached_property
    def signal(self) -> SignalKind:
        if self.separator is not None:
            return "binary"
        labels = (self._label(sample, f"{key}:{name}") for _, key, name, sample in self._labelled())
        first = next((label for label in labels if label is not None), None)
        return "binary" if isinstance(first, list | dict) else "categorical"

    @cached_property
    def _reader(self) -> Classes | LabelSets:
        if self.signal == "categorical":
            return read_classes(self.classes)
        return LabelSets(read_classes(self.classes, least=1), self.separator)

    def class_names(self, raw: Path) -> tuple[str, ...]:
        self._check_labelled()
        classes = self._reader.classes if isinstance(self._reader, LabelSets) else self._reader
        return self._surveyed[0].class_names(classes.names, self.path)

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int]:
        return self._surveyed[0].counts

    def split_sizes(self, raw: Path) -> Mapping[str, int]:
        return self._surveyed[0].split_sizes

    def count(self, raw: Path) -> int:
        return sum(self._surveyed[1])

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        wanted = {*self.image_extensions, self.label_extension}
        for (split, key, tar), count in zip(self._tars, self._surveyed[1], strict=True):
            if start < count:
                for name, sample in self._samples(tar, wanted, start):
                    where = f"{key}:{name}"
                    content = sample[self._image(sample, where)]
                    assert content is not None, "images were asked for"
                    yield RawImage(split, self._reader.name(self._label(sample, where), where), where, content)
            start = max(start - count, 0)

    def borders(self, raw: Path) -> Sequence[int]:
        return list(accumulate(self._surveyed[1]))

    def files(self) -> Iterator[str]:
        yield from files_of(self.classes)
        yield from (str(tar) for _, _, tar in self._tars)

    @cached_property
    def _tars(self) -> list[tuple[str, str, Path]]:
        """The split, key and path of every tar."""
        root, files = find_files(self.path, _SUFFIXES, self.notes)
        return [(split, file.relative_to(root).as_posix(), file) for split, file in files]

    @cached_property
    def _surveyed(self) -> tuple[Survey, list[int], Counter[str]]:
        """The labels of all samples, the number of samples in every tar, and the members by
        extension.
        """
        survey, extensions = Survey(self.notes, self.signal), Counter[str]()
        counts = {key: 0 for _, key, _ in self._tars}
        say(f"{self.path}: reading the labels of {len(self._tars):,} tars")
        for split, key, name, sample in self._labelled():
            self._image(sample, f"{key}:{name}")
            survey.add(split, self._label(sample, f"{key}:{name}"), self._reader, f"{key}:{name}")
            extensions.update(list(sample))
            counts[key] += 1
        return survey, list(counts.values()), extensions

    def _labelled(self) -> Iterator[tuple[str, str, str, Sample]]:
        """Yields split, tar, name and label of every sample; no image is read."""
        for split, key, tar in self._tars:
            for name, sample in self._samples(tar, {self.label_extension}):
                yield split, key, name, sample

    def _check_labelled(self) -> None:
        extensions = self._surveyed[2]
        others = [extension for extension in extensions if extension not in self.image_extensions]
        if extensions and self.label_extension not in extensions:
            found = f"no sample has a label, a member that ends in .{self.label_extension}"
            fix = f"set `label_extension` to one of: {listed(others, 60)}" if others else "add one to each sample"
            raise SourceError(self.path, found, fix=fix)

    def _image(self, sample: Sample, where: str) -> str:
        """Returns the extension of a sample's image; raises SourceError unless there is one."""
        images = [extension for extension in sample if extension in self.image_extensions]
        if len(images) != 1:
            found = f"{len(images)} images among {listed(list(sample), 60)}"
            fix = "set `image_extensions` in the source's settings"
            if any(extension.rpartition(".")[2] in self.image_extensions for extension in sample if "." in extension):
                fix = "set `name_ends: last dot` in the source's settings, if names have dots in them"
            raise SourceError(where, found, expected=f"one of {listed(self.image_extensions, 60)}", fix=fix)
        return images[0]

    def _label(self, sample: Sample, where: str) -> object:
        """Returns the label of a sample as it stands in the tar, None without one."""
        content = sample.get(self.label_extension)
        if content is None:
            return None
        return label_in(content, self.label_extension, self.label_key, f"{where}.{self.label_extension}")

    def _samples(self, tar: Path, wanted: Collection[str], start: int = 0) -> Iterator[tuple[str, Sample]]:
        """Yields name and content of the samples of a tar from `start` on; content of wanted
        extensions only.
        """
        members = Tar(tar, self.name_ends == "last dot", self.largest_mb).members(wanted, start)
        for (_, name), some in groupby(members, key=lambda member: member[:2]):
            sample: Sample = {}
            for member in some:
                if member.extension in sample:
                    found = f"two members with the extension {member.extension!r}"
                    raise SourceError(f"{tar}:{name}", found, expected="one")
                sample[member.extension] = member.content
            yield name, sample


def label_in(content: bytes, extension: str, key: str | None, where: str) -> object:
    """Returns the label in a member: its text, or an entry of its JSON.

    Raises SourceError where it is JSON of several entries and no key is given.
    """
    if key is None and extension != "json" and not content.lstrip().startswith(b"{"):
        return content
    try:
        record = json.loads(content)
    except ValueError as error:
        raise SourceError(where, f"not JSON ({error})") from None
    if key is None and not isinstance(record, dict):
        return record
    if key is None or not isinstance(record, dict) or key not in record:
        found = f"no entry {key!r}" if key else f"JSON, which begins {content[:40].decode(errors='replace')!r}"
        keys = f" to one of: {listed(list(record), 60)}" if isinstance(record, dict) and record else ""
        raise SourceError(where, found, fix=f"set `label_key` in the source's settings{keys}")
    return record[key]
