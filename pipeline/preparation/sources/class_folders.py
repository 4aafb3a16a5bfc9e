"""The class folders below a path, and the split of each: found by names, refused where these are
doubtful.

1. A folder that holds nothing but one folder of folders is passed through, as archives have it.
2. Folders at the top that all name splits (`Training`, `test_set`, `seg_train`) are splits.
3. Where some name splits and others do not, they are classes if the first hold images themselves (a
   class called `train`), else it is refused.
4. All others are classes, unless they repeat the same folders below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pipeline.core.errors import SourceError, listed, suggest
from pipeline.preparation.sources.file_kinds import IMAGE_FILES, FileKind
from pipeline.preparation.sources.notes import Notes
from pipeline.preparation.sources.split_names import SPLITS, is_split_name, is_to_predict, split_named, splits_in
from pipeline.preparation.sources.walking import listed as entries

UNLABELLED_FOLDER = "_unlabelled"
Layout = Literal["classes", "splits"] | None


@dataclass(frozen=True)
class ClassFolder:
    """A folder of samples of one class, None for unlabelled ones."""

    split: str
    label: str | None
    path: Path


@dataclass(frozen=True)
class Finder:
    """A search for class folders.

    Attributes:
        layout: What the folders at the top are; None: found by their names.
        leave_out: Names that are passed over, or patterns of names.
        holds: The files that folders hold.
    """

    layout: Layout
    leave_out: Sequence[str]
    notes: Notes
    holds: FileKind = IMAGE_FILES

    def find(self, path: Path) -> list[ClassFolder]:
        """Returns the class folders, training first; raises SourceError where they are in doubt."""
        if not path.is_dir():
            raise SourceError(path, "no such folder", fix="correct `path` in the source's settings")
        if self.layout is None:
            *passed, path = self._way(path)
            for above, below in pairwise([*passed, path]):
                self.notes.add("folders passed through: they hold nothing but one folder", below)
                self._note_left_out(above)
        tops = self._folders(path)
        if self.layout == "splits" or (self.layout is None and self._are_splits(path, tops)):
            return self._of_splits(path, tops)
        if self.layout is None:
            self._check_distinct(path, tops)
        return self._classes_of(path, "train")

    def _folders(self, path: Path) -> list[str]:
        names = (name for name, is_folder in entries(path) if is_folder)
        return sorted(name for name in names if not any(fnmatchcase(name, one) for one in self.leave_out))

    def _way(self, path: Path) -> list[Path]:
        """Returns the folders down to the one to look into, through those that hold but one folder
        of folders.
        """
        way = [path]
        while len(tops := self._folders(way[-1])) == 1 and not splits_in(tops[0]):
            below = way[-1] / tops[0]
            if self._holds_some(way[-1]) or self._holds_some(below) or not self._folders(below):
                break
            way.append(below)
        return way

    def _note_left_out(self, path: Path) -> None:
        """Notes what is left out beside the folders that are looked into."""
        for name, is_folder in entries(path, hidden=True):
            if remark := self.holds.left_out_as(path, name, self.leave_out, is_folder=is_folder):
                self.notes.add(remark, name)
            elif not is_folder:
                self.notes.add(f"{self.holds.things} outside of the splits' folders left out", name)

    def _are_splits(self, path: Path, tops: list[str]) -> bool:
        named = [top for top in tops if splits_in(top)]
        others = [top for top in tops if top not in named and not is_to_predict(top)]
        if not named or not others:
            return bool(named)
        exact = [top for top in named if is_split_name(top)]
        splits = set().union(*map(splits_in, named))
        if len(splits) == 1 and (not exact or all(self._holds_some(path / top) for top in exact)):
            self.notes.add("classes whose names are those of splits", exact[0] if exact else named[0], len(named))
            return False
        first = (exact or named)[0]
        raise SourceError(
            path,
            f"{first!r} names a split, and {others[0]!r} does not",
            expected=suggest(others[0].lower(), SPLITS),
            fix=f"rename or move {others[0]!r}, or set `layout: classes` where {first!r} is a class, too",
        )

    def _of_splits(self, path: Path, tops: list[str]) -> list[ClassFolder]:
        self._note_left_out(path)
        parts: dict[str, str] = {}
        for top in tops:
            if is_to_predict(top) and not splits_in(top):
                remark = f"folders of {self.holds.things} to predict left out (`train/_unlabelled` would use them)"
                self.notes.add(remark, top)
                continue
            split = split_named(top, path)
            if split in parts:
                found = f"two folders of the split {split!r}: {parts[split]!r} and {top!r}"
                raise SourceError(path, found, fix="put them into one")
            parts[split] = top
        places = {split: self._repeated(path / parts[split], split) for split in SPLITS if split in parts}
        return [one for split, place in places.items() for one in self._classes_of(place, split)]

    def _repeated(self, path: Path, split: str) -> Path:
        """Returns the folder of a split, or the one in it that repeats its name."""
        inside = self._folders(path)
        if len(inside) == 1 and splits_in(inside[0]) == {split} and not self._holds_some(path):
            self._note_left_out(path)
            return path / inside[0]
        return path

    def _check_distinct(self, path: Path, tops: list[str]) -> None:
        """Raises SourceError where the folders below the classes are the same in each."""
        tops = [top for top in tops if top != UNLABELLED_FOLDER]
        if len(tops) < 2 or any(self._holds_some(path / top) for top in tops):
            return
        below = [set(self._folders(self._way(path / top)[-1])) for top in tops]
        same = sorted(set.intersection(*below))
        if not (len(same) > 1 or any(map(is_split_name, same))):
            return
        found = f"{tops[0]!r} and {tops[1]!r} hold folders of the same names: {listed(same, 60)}"
        fix = f"set `path` to one of them, or `layout: classes` (`leave_out: [{same[-1]}]` is for masks and the like)"
        if any(map(is_split_name, same)):
            fix = f"move them to {same[0]}/{tops[0]} and so on, or set `layout: classes` to train on all"
        raise SourceError(path, found, expected="classes, or splits of classes", fix=fix)

    def _classes_of(self, path: Path, split: str) -> list[ClassFolder]:
        if loose := next(self._loose(path), None):
            found = f"{self.holds.a_thing} outside of every class folder"
            raise SourceError(path / loose, found, fix=self._fix_of_loose(path, split))
        self._note_left_out(path)
        names = self._folders(path)
        if not names:
            name = f"<class>/*{self.holds.suffixes[0]}"
            expected = f"path/{name} or path/{{train,val,test}}/{name}"
            raise SourceError(path, "no class folders", expected=expected)
        return [ClassFolder(split, None if name == UNLABELLED_FOLDER else name, path / name) for name in names]

    def _loose(self, path: Path) -> Iterator[str]:
        """Yields the samples that are in no folder."""
        for name, is_folder in entries(path, hidden=True):
            if not is_folder and not self.holds.left_out_as(path, name, self.leave_out, is_folder=False):
                yield name

    def _fix_of_loose(self, path: Path, split: str) -> str:
        """Returns what can be done with a sample beside class folders; only training ones may be
        unlabelled.
        """
        if split == "train":
            return f"move it into a folder of its class, or into {UNLABELLED_FOLDER}"
        place = f"train/{UNLABELLED_FOLDER}"
        return f"without labels nothing is measured: move {path.name!r} away, or its {self.holds.things} to {place}"

    def _holds_some(self, path: Path) -> bool:
        return any(not is_folder and self.holds.is_name(name) for name, is_folder in entries(path))
