"""Damaged files of outputs: whole ones put in their place, or dropped so that DVC makes them again.

A file of an output, DVC's copy of it and its second name in `work` are often one file with three
names (hard links). Damage to one is then damage to all, and `dvc checkout` and `dvc repro` would
bring it back from the cache. So each name is compared with the digest in dvc.lock:

1. DVC's copy is removed if it does not fit, and so are the names that are the same file. A file of
   an output that is not linked to it may be a newer result, and stays.
2. Where another name does fit, its file takes their place.
3. Where none does, the file is lost: the stage that makes it has to run again.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.core.scratch import WORK, kept_output

_READ_ONLY = 0o444  # by this DVC knows its own
_Key = tuple[int, int]


class Repair:
    """The repair of all outputs of the project in this folder, as DVC records them."""

    def __init__(self) -> None:
        self._digests: dict[_Key, str] = {}  # each file is read once, whatever its names
        self._damaged: set[_Key] = set()  # files that DVC's copies were; several outputs may name one

    def run(self) -> Iterator[str]:
        """Repairs each output in turn; yields a line for each that was not whole, and one at the
        end.

        Raises PipelineError where this is no project of DVC's, or DVC is at work in it.
        """
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with Repo() as repo, repo.lock:
                for out in repo.index.outs:
                    if out.use_cache and out.hash_info:
                        yield from self._output(out)
                self._others(Path(repo.cache.local.path))
        except DvcException as error:
            fix = "run this in the project's top folder, when DVC is not at work there"
            raise PipelineError("repair", str(error), fix=fix) from None
        yield f"repair: {len(self._digests):,} files compared with DVC's records"

    def _output(self, out: Any) -> Iterator[str]:
        """Repairs the files of an output."""
        folder, found = Path(os.path.relpath(out.fs_path)), Counter[str]()
        for inner, digest in self._recorded(out).items():
            found[self._file(folder, inner, Path(out.cache.oid_to_path(digest)), digest)] += 1
        stage = out.stage.addressing
        if found["whole again"]:
            yield f"repair: {folder}: damaged or lost files that are whole again: {found['whole again']:,}"
        if found["lost"]:
            yield f"repair: {folder}: damaged files without a whole copy: {found['lost']:,}; run `dvc repro {stage}`"
        if found["other"]:
            fix = f"`dvc commit --force {stage}` if it is right, otherwise delete it and run `dvc checkout`"
            yield f"repair: {folder}: not what DVC recorded, and left as it is: {fix}"

    def _recorded(self, out: Any) -> Mapping[str, str]:
        """Returns the digest of each file of an output; none where DVC's list of them is lost."""
        if not out.hash_info.isdir:
            return {"": out.hash_info.value}
        listed = Path(out.cache.oid_to_path(out.hash_info.value))
        if not self._fits(listed, out.hash_info.value):
            if listed.exists():
                self._remove(listed)
            return {}
        return {str(Path(*key)): digest.value for key, _, digest in out.get_obj()}

    def _file(self, folder: Path, inner: str, cached: Path, digest: str) -> str:
        """Repairs the names of one file; returns what became of it."""
        path, kept = folder / inner, kept_output(folder, WORK) / inner
        names = [name for name in (path, kept, cached) if name.exists()]
        whole = next((name for name in names if self._fits(name, digest)), None)
        if cached in names and not self._fits(cached, digest):
            self._damaged.add(_key(cached))
        damaged = [name for name in names if _key(name) in self._damaged]
        for name in damaged:  # DVC's comes last: by it the others are known, should this be killed
            self._remove(name)
        if whole is None:
            return "lost" if damaged else "other" if path in names else "whole"
        lost = [name for name in (cached, path) if not name.exists() and (name == cached or folder.exists())]
        for name in lost:
            _link(whole, name)
        if lost:
            return "whole again"
        return "whole" if self._fits(path, digest) or not path.exists() else "other"

    def _others(self, cache: Path) -> None:
        """Drops damaged copies of what is not recorded now: DVC would put them back one day."""
        for path in sorted(cache.glob("??/*")):
            if path.is_file() and not self._fits(path, path.parent.name + path.name):
                path.unlink()

    def _remove(self, name: Path) -> None:
        """Removes a name; with its last one a file is gone, and another may get its number."""
        key, is_last = _key(name), name.stat().st_nlink == 1
        name.unlink()
        if is_last:
            self._digests.pop(key, None)
            self._damaged.discard(key)

    def _fits(self, path: Path, digest: str) -> bool:
        """Returns whether a file has the content that its digest names."""
        if not path.is_file():
            return False
        key = _key(path)
        if key not in self._digests:
            with path.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "md5").hexdigest()
        return self._digests[key] == digest.removesuffix(".dir")


def _key(path: Path) -> _Key:
    """Returns what all names of one file have in common: its device and number."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _link(whole: Path, name: Path) -> None:
    """Gives a file a second name, or a copy where there are no hard links."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(whole, name)
    except OSError:
        shutil.copyfile(whole, name)
    name.chmod(_READ_ONLY)
