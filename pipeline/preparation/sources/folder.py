"""A folder of image files with a folder for each class.

```
path/<class>/.../*.jpg                      all for training
path/{train,val,test}/<class>/.../*.jpg     with splits (`valid` and `validation` are `val`)
```

Images in a class folder named `_unlabelled` have no label. Hidden files and folders are left out.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.dataset import SPLITS
from pipeline.data.formats import IMAGE_SUFFIXES, is_image_name
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.files import SPLIT_NAMES, split_named
from pipeline.preparation.sources.image_files import ImageFiles, image_files
from pipeline.preparation.sources.labels import check_labels
from pipeline.preparation.sources.walking import listed

UNLABELLED_FOLDER = "_unlabelled"
_MOST_FOLDERS = 4  # below the class folders, that are told by name


@plain_dataclass(frozen=True)
class _ClassFolder:
    split: str
    label: str | None
    path: Path


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Folder(Source):
    """The images in class folders, in the order of their names (training first, then val, then
    test).

    `leave_out` names files and folders below the class folders that are passed over (`masks`,
    `*_mask.png`). One class folder is listed at a time, so that millions of files do not fill the
    memory.
    """

    path: str
    leave_out: tuple[str, ...] = ()

    kind: ClassVar[str] = "folder"

    def class_names(self, raw: Path) -> tuple[str, ...]:
        """Returns the class folders sorted by name, as torchvision's ImageFolder numbers them."""
        return tuple(sorted({folder.label for folder, _ in self._survey if folder.label is not None}))

    def count(self, raw: Path) -> int:
        return sum(count for _, count in self._survey)

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        for folder, count in self._survey:
            if start < count:
                inside = folder.path.relative_to(self.path).as_posix()
                for name in self._files(folder).names[start:]:
                    yield RawImage(folder.split, folder.label, f"{inside}/{name}", folder.path / name)
            start = max(start - count, 0)

    def files(self) -> Iterator[str]:
        for folder, _ in self._survey:
            yield from (f"{folder.path}/{name}" for name in self._files(folder).names)

    @cached_property
    def _survey(self) -> list[tuple[_ClassFolder, int]]:
        """The class folders in their order, and the number of images in each."""
        folders, below = [], Counter[str]()
        found: dict[str, set[str | None]] = {split: set() for split in SPLITS}
        for folder in _class_folders(Path(self.path)):
            files = self._files(folder)
            self._note(folder, files, below)
            if not files.names:
                expected = f"files that end in {' '.join(IMAGE_SUFFIXES)}"
                fix = "put images in, or delete the folder"
                others = "".join(f", but {reason}" for reason, _ in files.left_out[:1])
                raise SourceError(folder.path, f"a class folder without images{others}", expected=expected, fix=fix)
            folders.append((folder, len(files.names)))
            found[folder.split].add(folder.label)
        check_labels(found, self.path)
        self._note_folders(below)
        return folders

    def _files(self, folder: _ClassFolder) -> ImageFiles:
        return image_files(folder.path, self.leave_out)

    def _note(self, folder: _ClassFolder, files: ImageFiles, below: Counter[str]) -> None:
        """Notes the files that are left out, and counts images by the folder below their class
        folder.
        """
        inside = folder.path.relative_to(self.path).as_posix()
        for reason, name in files.left_out:
            self.notes.add(f"files left out: {reason}", f"{inside}/{name}")
        below.update(name.partition("/")[0] for name in files.names if "/" in name)

    def _note_folders(self, below: Counter[str]) -> None:
        """Notes the folders below class folders: masks beside images would be training images."""
        if len(below) > _MOST_FOLDERS:
            remark = "images in folders below their class folders"
            self.notes.add(remark, ", ".join(list(below)[:_MOST_FOLDERS]), below.total())
        else:
            for name, count in below.items():
                leave = f"`leave_out: [{name}]` would leave them out"
                self.notes.add(f"images in folders below their class folders ({leave})", name, count)


def _class_folders(path: Path) -> list[_ClassFolder]:
    if not path.is_dir():
        raise SourceError(path, "no such folder", fix="correct `path` in the source's settings")
    tops = sorted(name for name, is_folder in listed(path) if is_folder)
    if not any(top.lower() in SPLIT_NAMES for top in tops):
        return _classes_of(path, "train")
    parts: dict[str, str] = {}
    for top in tops:
        split = split_named(top, path)
        if split in parts:
            found = f"two folders of the split {split!r}: {parts[split]!r} and {top!r}"
            raise SourceError(path, found, fix="put them into one")
        parts[split] = top
    return [one for split in SPLITS if split in parts for one in _classes_of(path / parts[split], split)]


def _classes_of(path: Path, split: str) -> list[_ClassFolder]:
    labels = []
    for name, is_folder in listed(path):
        if is_folder:
            labels.append(name)
        elif is_image_name(name):
            fix = f"move it into a folder of its class, or into {UNLABELLED_FOLDER}"
            raise SourceError(path / name, "an image outside of every class folder", fix=fix)
    if not labels:
        raise SourceError(
            path, "no class folders", expected="path/<class>/*.jpg or path/{train,val,test}/<class>/*.jpg"
        )
    return [
        _ClassFolder(split, None if label == UNLABELLED_FOLDER else label, path / label) for label in sorted(labels)
    ]
