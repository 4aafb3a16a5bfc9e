"""Samples by the names that others have for them."""

from collections.abc import Mapping

from pipeline.core.errors import DataError
from pipeline.core.text import composed


class SampleNames:
    """The samples of a data set by sample id, by key, or by the end of a key's path.

    Others name a file by another top folder, and without what its name has after the first dot. So
    two paths are of one sample where the shorter is the end of the longer, folder by folder.

    Args:
        keys: Sample ids by key.
    """

    def __init__(self, keys: Mapping[str, int]) -> None:
        self._known = {_plain(key): sample for key, sample in keys.items()}
        self._ids = {f"{sample:016x}": sample for sample in keys.values()}
        self._ends: dict[str, str] = {}
        self._whole: dict[str, str] = {}
        self._twice: dict[str, str] = {}
        for key in self._known:
            ends = _ends(key)
            self._whole.setdefault(ends[0], key)
            for end in ends:
                if self._known[self._ends.setdefault(end, key)] != self._known[key]:
                    self._twice[end] = key

    def find(self, name: str, where: object) -> int | None:
        """Returns the id of the sample with a name, None where there is none.

        Raises DataError where it could be several.
        """
        plain = _plain(name)
        if (exact := self._known.get(plain, self._ids.get(plain))) is not None:
            return exact
        ends = _ends(plain)
        end = ends[0] if ends[0] in self._ends else next((each for each in ends[1:] if each in self._whole), None)
        if end is None:
            return None
        if end in self._twice:
            either = f"{self._ends[end]!r} or {self._twice[end]!r}"
            raise DataError(where, f"sample {name!r} may be {either}", expected="names that fit one sample each")
        return self._known[self._ends[end]]


def _plain(name: str) -> str:
    return composed(name.strip().replace("\\", "/"))


def _ends(path: str) -> list[str]:
    """Returns the ends of a path from the whole to the file alone, without endings of the file."""
    *folders, file = [part for part in path.split("/") if part not in ("", ".")] or [path]
    parts = [*folders, file.split(".")[0] or file]
    return ["/".join(parts[start:]) for start in range(len(parts))]
