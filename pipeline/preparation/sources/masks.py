"""A folder of images and one of their masks, which have the same names.

```
path/images/.../x.jpg                      all for training
path/images/{train,val,test}/.../x.jpg     with splits, in any usual form of their names
path/masks/.../x.png                       at the same place below `masks`
path/classes.txt                           the name of 0, of 1 and so on, one a line
```

Where `masks` names another folder, the images are those below `path`. The numbers in a mask, grey
levels or places in a palette, are the classes' numbers. An image without a mask is unlabelled.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.data.formats import IMAGE_SUFFIXES
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.file_kinds import IMAGE_FILES
from pipeline.preparation.sources.labels import ClassList, files_of
from pipeline.preparation.sources.mask import Ignore, MaskReader, Masks
from pipeline.preparation.sources.split_names import SPLITS, is_to_predict, split_named, splits_in
from pipeline.preparation.sources.survey import Survey


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MaskFolder(Source):
    """The images of a folder, in the order of their names (training first, then val, then test).

    `classes` names the numbers 0, 1 and so on; `ignore` is the number of pixels of which nothing is
    known. `leave_out` names files and folders that are passed over, as for `folder`.
    """

    path: str
    masks: str | None = None
    classes: ClassList = None
    ignore: Ignore = None
    leave_out: tuple[str, ...] = ()

    kind: ClassVar[str] = "masks"

    @property
    def signal(self) -> SignalKind:
        return "grid"

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._surveyed.class_names(tuple(self._reader.kind.class_names), self.path)

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int]:
        return self._surveyed.counts

    def split_sizes(self, raw: Path) -> Mapping[str, int]:
        return self._surveyed.split_sizes

    def count(self, raw: Path) -> int:
        return len(self._images)

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        for split, name in self._images[start:]:
            yield RawImage(
                split, self._reader.name(self._mask_of(name), self._mask_folder), name, Path(self._image_folder, name)
            )

    def files(self) -> Iterator[str]:
        yield from files_of(self._class_list)
        yield from (f"{self._image_folder}/{name}" for _, name in self._images)
        yield from (f"{self._mask_folder}/{mask}" for _, name in self._images if (mask := self._mask_of(name)))

    @property
    def _image_folder(self) -> str:
        return f"{self.path}/images" if self.masks is None else self.path

    @property
    def _mask_folder(self) -> str:
        return f"{self.path}/masks" if self.masks is None else self.masks

    @property
    def _class_list(self) -> ClassList:
        beside = Path(self.path, "classes.txt")
        return str(beside) if self.classes is None and beside.is_file() else self.classes

    @cached_property
    def _reader(self) -> MaskReader:
        return MaskReader(Masks.of_settings(self._class_list, self.ignore), Path(self._mask_folder))

    @cached_property
    def _images(self) -> list[tuple[str, str]]:
        """The split of each image, and its path below `path`."""
        names = self._listed(self._image_folder, "path")
        if inside := next(
            (name for name in names if Path(self._mask_folder) in Path(self._image_folder, name).parents), None
        ):
            fix = "set `path` to the folder of the images alone, or name the masks' folder in `leave_out`"
            raise SourceError(f"{self._image_folder}/{inside}", "a mask among the images", fix=fix)
        splits = self._splits(names)
        found = [(split, name) for name in names if (split := splits.get(_top(name), "train"))]
        return sorted(found, key=lambda pair: SPLITS.index(pair[0]))

    def _splits(self, names: list[str]) -> dict[str, str]:
        """Returns the split of each folder at the top; none where they do not name splits, and
        empty text for images to predict.
        """
        tops = sorted(set(map(_top, names)))
        named = [top for top in tops if splits_in(top)]
        if not named:
            return {}
        others = [top for top in tops if top not in named]
        odd = next((top for top in others if not is_to_predict(top)), None)
        if odd is not None:
            found = f"{named[0]!r} names a split, and {odd!r} does not" if odd else "images beside the splits' folders"
            raise SourceError(
                self._image_folder, found, expected="train, val and test", fix="move the images into these"
            )
        for top in others:
            self.notes.add("folders of images to predict left out", top)
        return {top: split_named(top, self._image_folder) for top in named} | dict.fromkeys(others, "")

    def _listed(self, folder: str, key: str) -> list[str]:
        """Returns the image files in a folder, and notes what is left out."""
        if not Path(folder).is_dir():
            raise SourceError(folder, "no such folder", fix=f"correct `{key}` in the source's settings")
        files = IMAGE_FILES.files(Path(folder), self.leave_out)
        for remark, name in files.left_out:
            self.notes.add(remark, name)
        if not files.names:
            raise SourceError(folder, "no images", expected=f"files that end in {' '.join(IMAGE_SUFFIXES)}")
        return files.names

    @cached_property
    def _masks(self) -> dict[str, str]:
        """The path of each mask below `masks`, by the same without its suffix."""
        found: dict[str, str] = {}
        for name in self._listed(self._mask_folder, "masks"):
            if other := found.get(_stem(name)):
                raise SourceError(
                    f"{self._mask_folder}/{name}", f"a second mask of one image, beside {other}", fix="remove one"
                )
            found[_stem(name)] = name
        return found

    def _mask_of(self, name: str) -> str | None:
        return self._masks.get(_stem(name))

    @cached_property
    def _surveyed(self) -> Survey:
        survey, stems = Survey(self.notes, self.signal), {_stem(name) for _, name in self._images}
        if not stems & set(self._masks):
            found = f"no mask has an image's name: {next(iter(self._masks.values()))!r}, and {self._images[0][1]!r}"
            raise SourceError(self._mask_folder, found, expected="the same names, suffixes apart")
        for stem in sorted(set(self._masks) - stems):
            self.notes.add("masks left out: no image has their name", self._masks[stem])
        for split, name in self._images:
            survey.add(split, mask := self._mask_of(name), self._reader, f"{self._image_folder}/{name}")
            if mask is None:
                self.notes.add("images without a mask, read as unlabelled", name)
        return survey


def _top(name: str) -> str:
    """Returns the folder at the top that an image is in; empty text for none."""
    return name.partition("/")[0] if "/" in name else ""


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
