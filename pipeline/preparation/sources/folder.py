"""A folder of image files with a folder for each class.

```
path/<class>/.../*.jpg                      all for training
path/{train,val,test}/<class>/.../*.jpg     with splits, in any usual form of their names
```

Images in a class folder named `_unlabelled` have no label. Hidden files and folders are left out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.class_folders import ClassFolder, Finder, Layout
from pipeline.preparation.sources.file_kinds import IMAGE_FILES, FileKind, Found
from pipeline.preparation.sources.labels import Classes, ClassList, files_of, read_classes
from pipeline.preparation.sources.survey import Survey
from pipeline.preparation.sources.walking import left_out_by

_MOST_FOLDERS = 4  # below the class folders, that are told by name


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Folder(Source):
    """The images in class folders, in the order of their names (training first, then val, then
    test).

    `layout` says whether the folders at the top are classes or splits, where names leave it open.
    `leave_out` names files and folders that are passed over, whole class folders included (`masks`,
    `*_mask.png`). One class folder is listed at a time, so that millions of files do not fill the
    memory.
    """

    path: str
    layout: Layout = None
    classes: ClassList = None
    leave_out: tuple[str, ...] = ()

    kind: ClassVar[str] = "folder"

    @property
    def holds(self) -> FileKind:
        """The files that are its samples."""
        return IMAGE_FILES

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._surveyed[1].class_names(self._classes.names, self.path)

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int] | None:
        return self._surveyed[1].counts

    def count(self, raw: Path) -> int | None:
        return self._surveyed[1].counts.total()

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        for folder, count in self._surveyed[0]:
            if start < count:
                label = self._classes.name(folder.label, folder.path)
                inside = folder.path.relative_to(self.path).as_posix()
                for name in self._files(folder).names[start:]:
                    yield RawImage(folder.split, label, f"{inside}/{name}", folder.path / name)
            start = max(start - count, 0)

    def files(self) -> Iterator[str]:
        yield from files_of(self.classes)
        for folder, _ in self._surveyed[0]:
            above = f"{folder.path}/"
            yield from (above + name for name in self._files(folder).names)

    @cached_property
    def _classes(self) -> Classes:
        return read_classes(self.classes)

    @cached_property
    def _surveyed(self) -> tuple[list[tuple[ClassFolder, int]], Survey]:
        """The class folders in their order with the number of images in each, and the labels."""
        folders, below = [], Counter[str]()
        survey = Survey(self.notes)
        for folder in Finder(self.layout, self.leave_out, self.notes, self.holds).find(Path(self.path)):
            files = self._files(folder)
            self._note(folder, files, below)
            if not files.names:
                expected = f"files that end in {' '.join(self.holds.suffixes)}"
                fix = f"put {self.holds.things} in, or delete the folder"
                others = "".join(f", but {remark}" for remark, _ in files.left_out[:1])
                raise SourceError(
                    folder.path, f"a class folder without {self.holds.things}{others}", expected=expected, fix=fix
                )
            folders.append((folder, len(files.names)))
            survey.add(folder.split, folder.label, self._classes, str(folder.path), len(files.names))
        self._note_folders(below)
        self._note_useless_patterns()
        return folders, survey

    def _files(self, folder: ClassFolder) -> Found:
        return self.holds.files(folder.path, self.leave_out)

    def _note(self, folder: ClassFolder, files: Found, below: Counter[str]) -> None:
        """Notes what is left out, and counts images by the folder below their class folder."""
        inside = folder.path.relative_to(self.path).as_posix()
        for remark, name in files.left_out:
            self.notes.add(remark, f"{inside}/{name}")
        below.update(name.partition("/")[0] for name in files.names if "/" in name)

    def _note_folders(self, below: Counter[str]) -> None:
        """Notes the folders below class folders: masks beside images would be training images."""
        if len(below) > _MOST_FOLDERS:
            remark = f"{self.holds.things} in folders below their class folders"
            self.notes.add(remark, ", ".join(list(below)[:_MOST_FOLDERS]), below.total())
        else:
            for name, count in below.items():
                leave = f"`leave_out: [{name}]` would leave them out"
                self.notes.add(f"{self.holds.things} in folders below their class folders ({leave})", name, count)

    def _note_useless_patterns(self) -> None:
        """Notes names in `leave_out` that nothing has: they may be misspelt."""
        for pattern in self.leave_out:
            if not self.notes.mention(left_out_by(pattern)):
                self.notes.add("files or folders have a name that is in leave_out", pattern, 0)
