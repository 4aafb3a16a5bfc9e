"""The first stages' results, which many tests start from: made once for all of them and copied."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from project import write_params

import pipeline.data.images
from pipeline.core import arrays, scratch
from stages import dump_labels, prepare, train_teacher

Params = dict[str, Any]


def _prepare(folder: Path) -> None:
    prepare.main(folder / "params.yaml", folder / "data/raw", folder / "data/prepare", folder / "work")


def _train_teacher(folder: Path) -> None:
    data = folder / "data"
    train_teacher.main(
        folder / "params.yaml", data / "prepare", data / "train_teacher", folder / "reports", folder / "work"
    )


def _dump_labels(folder: Path) -> None:
    data = folder / "data"
    dump_labels.main(
        folder / "params.yaml", data / "prepare", data / "train_teacher", data / "dump_labels", folder / "work"
    )


_STAGES: dict[str, Callable[[Path], None]] = {
    "prepare": _prepare,
    "train_teacher": _train_teacher,
    "dump_labels": _dump_labels,
}
_SECTIONS = {"dump_labels": ["dump_labels", "encodings"]}


class Made:
    """A folder of projects after a stage, which the workers of pytest-xdist share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def copy(self, params: Params, stage: str, folder: Path) -> Path:
        """Writes params to a folder, and what all stages up to this one make of them."""
        subprocess.run(["cp", "-a", f"{self._project(params, [*_STAGES].index(stage))}/.", folder], check=True)
        write_params(folder, params)
        return folder

    def _project(self, params: Params, last: int) -> Path:
        """Returns the project of these params after so many stages, made where it is not there."""
        stages = [*_STAGES][: last + 1]
        told = {name: params[name] for stage in stages for name in _SECTIONS.get(stage, [stage])}
        # What tests change for all tests of a file.
        changed = [arrays.CHUNK_BYTES, pipeline.data.images.IMAGE_CHUNK_BYTES, scratch.code_fingerprint.__qualname__]
        name = hashlib.sha256(json.dumps([told, changed]).encode()).hexdigest()[:16]
        found, begun = self._folder / name, self._folder / f"{name}.begun"
        self._folder.mkdir(exist_ok=True)
        with FileLock(self._folder / f"{name}.lock"):
            if not found.exists():
                shutil.rmtree(begun, ignore_errors=True)  # where the making failed before
                begun.mkdir()
                if last:
                    subprocess.run(["cp", "-a", f"{self._project(params, last - 1)}/.", begun], check=True)
                write_params(begun, params)
                _STAGES[stages[-1]](begun)
                begun.replace(found)
        return found
