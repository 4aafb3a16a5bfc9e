"""A table that names a file for each sample: what images and sounds have in common."""

from collections.abc import Iterator
from pathlib import Path

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.input_kinds import INPUT_KINDS
from pipeline.preparation.sources.accents import as_on_disk
from pipeline.preparation.sources.base import RawImage
from pipeline.preparation.sources.labelled_table import LabelledTable
from pipeline.preparation.sources.near_misses import near_miss


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FileTable(LabelledTable):
    """A table of files. Paths are relative to `root`, or to the table's folder when it is null.
    Files are looked for only when they are read: one that is missing is a broken sample."""

    root: str | None = None

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        root, thing = self._root, INPUT_KINDS[self.input_kind]
        if not root.is_dir():
            raise SourceError(root, "no such folder", expected="the one that paths are relative to", fix="set `root`")
        reader = self._readers.of_tables[0]
        for number, (where, (path,), label, split) in enumerate(self._rows()):
            if number < start:
                continue
            if not isinstance(path, str) or not path or "\0" in path:
                article = "an" if thing.thing[0] in "aeiou" else "a"
                raise SourceError(where, f"path {path!r}", expected=f"the path of {article} {thing.thing} file")
            if "://" in path and not path.startswith("file:"):
                raise SourceError(
                    where, f"path {path!r}, a URL", expected="a file", fix=f"fetch the {thing.things} first"
                )
            yield RawImage(self._split(split, where), reader.name(label, where), path, as_on_disk(root / path))

    def meant(self, missing: str) -> Path | None:
        return near_miss(self._root, missing.removeprefix(f"{self._root}/"))

    @property
    def _root(self) -> Path:
        return Path(self.path).parent if self.root is None else Path(self.root)
