"""A folder of image files with a folder for each class.

```
path/<class>/.../*.jpg                      all for training
path/{train,val,test}/<class>/.../*.jpg     with splits (`valid` and `validation` are `val`)
```

Images in a class folder named `_unlabelled` have no label. Hidden files and folders are left out.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.dataset import SPLITS
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.files import SPLIT_NAMES, split_named
from pipeline.preparation.sources.labels import check_labels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
UNLABELLED_FOLDER = "_unlabelled"


@plain_dataclass(frozen=True)
class _ClassFolder:
    split: str
    label: str | None
    path: Path


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Folder(Source):
    """The images in class folders, in the order of their names (training first, then val, then
    test).

    One class folder is listed at a time, so that millions of files do not fill the memory.
    """

    path: str

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
                for name in _sorted_files(folder.path)[0][start:]:
                    yield RawImage(folder.split, folder.label, f"{inside}/{name}", folder.path / name)
            start = max(start - count, 0)

    @cached_property
    def _survey(self) -> list[tuple[_ClassFolder, int]]:
        """The class folders in their order, and the number of images in each."""
        folders = []
        found: dict[str, set[str | None]] = {split: set() for split in SPLITS}
        for folder in _class_folders(Path(self.path)):
            names, others = _sorted_files(folder.path)
            self._note(folder.path, names, others)
            if not names:
                expected = f"files that end in {' '.join(IMAGE_SUFFIXES)}"
                fix = "put images in, or delete the folder"
                raise SourceError(folder.path, "a class folder without images", expected=expected, fix=fix)
            folders.append((folder, len(names)))
            found[folder.split].add(folder.label)
        check_labels(found, self.path)
        return folders

    def _note(self, folder: Path, names: list[str], others: list[str]) -> None:
        """Notes the images in folders below their class folder, and the files that are left out."""
        inside = folder.relative_to(self.path).as_posix()
        for name in names:
            if "/" in name:
                self.notes.add("images in folders below their class folder", f"{inside}/{name}")
        for name in others:
            suffix = Path(name).suffix or "no suffix"
            self.notes.add(f"files left out: no images by their names ({suffix})", f"{inside}/{name}")


def _class_folders(path: Path) -> list[_ClassFolder]:
    if not path.is_dir():
        raise SourceError(path, "no such folder", fix="correct `path` in the source's settings")
    tops = sorted(name for name, is_folder in _listed(path) if is_folder)
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
    for name, is_folder in _listed(path):
        if is_folder:
            labels.append(name)
        elif _is_image(name):
            fix = f"move it into a folder of its class, or into {UNLABELLED_FOLDER}"
            raise SourceError(path / name, "an image outside of every class folder", fix=fix)
    if not labels:
        raise SourceError(
            path, "no class folders", expected="path/<class>/*.jpg or path/{train,val,test}/<class>/*.jpg"
        )
    return [
        _ClassFolder(split, None if label == UNLABELLED_FOLDER else label, path / label) for label in sorted(labels)
    ]


def _sorted_files(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the images at and below a folder as sorted paths relative to it, and other files."""
    names: list[str] = []
    others: list[str] = []
    # A folder that waits is held with the real paths of those above it: a link to one of these
    # never ends.
    waiting = [("", frozenset({os.path.realpath(folder)}))]
    while waiting:
        inside, above = waiting.pop()
        for name, is_folder in _listed(folder / inside):
            if is_folder:
                place = os.path.realpath(folder / inside / name)
                if place in above:
                    raise SourceError(folder / inside / name, "a link to a folder that it is in", fix="delete the link")
                waiting.append((f"{inside}{name}/", above | {place}))
            else:
                (names if _is_image(name) else others).append(inside + name)
    return sorted(names), sorted(others)


def _listed(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yields the names in a folder, as they come, and whether each is a folder or a link to one; no
    hidden ones.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name, entry.is_dir()
    except OSError as error:
        raise SourceError(error.filename or folder, f"can't be read ({error.strerror})") from None


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
