"""A folder that several processes write to, one of which clears it away."""

from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from pipeline.labels.answers import ServerError
from pipeline.labels.disk_folder import DiskFolder

NAMES = [f"work/{folder}/{number}" for folder in "abc" for number in range(3)]


@pytest.mark.parametrize("act", ["sizes", "put"])
def test_who_comes_while_a_folder_is_cleared_away_meets_no_error_but_a_passing_one(act: str, tmp_path: Path) -> None:
    folder, over = DiskFolder(tmp_path, aside="work/partial"), Event()
    kinds = set[str]()

    def make_and_clear() -> None:
        while not over.is_set():
            for name in NAMES:
                path = tmp_path / name
                with suppress(OSError):  # the other side clears away, too
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(b"x")
            folder.delete(NAMES)

    thread = Thread(target=make_and_clear)
    thread.start()
    try:
        for number in range(300 if act == "sizes" else 30):
            if act == "sizes":
                assert set(folder.sizes("work").values()) <= {0, 1}
                continue
            try:
                folder.put(f"work/b/{number}", b"y", new=True)
            except ServerError as error:
                kinds.add(error.kind)
            folder.delete([f"work/b/{number}"])
    finally:
        over.set()
        thread.join()
    assert kinds <= {"passing"}
