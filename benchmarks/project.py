"""A project in a folder of its own, that a benchmark runs by the pipeline's own stages: it can be
killed and started again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ruamel.yaml import YAML

from stages import dump_labels, prepare, train_student, train_teacher


def write_params(params: Mapping[str, Any], path: Path) -> Path:
    """Writes a params.yaml, and the folder around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(dict(params), file)
    return path


def set_epochs(params: Mapping[str, Any], epochs: int | None) -> None:
    """Has teacher and students train for so many epochs; None: as they are."""
    for fit in (params["train_teacher"]["fit"], params["students_defaults"]["fit"]):
        fit["epochs"] = fit["epochs"] if epochs is None else epochs


@dataclass(frozen=True)
class Project:
    """A project: its params.yaml, its data, its networks."""

    place: Path

    @property
    def params(self) -> Path:
        """The params.yaml."""
        return self.place / "params.yaml"

    @property
    def prepared(self) -> Path:
        """The prepared data."""
        return self.place / "data/prepare"

    @property
    def teacher(self) -> Path:
        """The teacher's folder."""
        return self.place / "data/train_teacher"

    @property
    def stores(self) -> Path:
        """The folder of the stores."""
        return self.place / "data/dump_labels"

    def student(self, name: str) -> Path:
        """Returns a student's folder."""
        return self.place / "data/train_student" / name

    def make_teacher(self, raw: Path) -> None:
        """Prepares the data and trains the teacher."""
        prepare.main(self.params, raw, self.prepared, self.place / "work")
        train_teacher.main(self.params, self.prepared, self.teacher, self.place / "reports", self.place / "work")

    def make_labels(self) -> None:
        """Has the teacher write all stores."""
        dump_labels.main(self.params, self.prepared, self.teacher, self.stores, self.place / "work")

    def make_student(self, name: str) -> None:
        """Trains a student."""
        trained = self.place / "data/train_student", self.place / "reports/train_student"
        train_student.main(name, self.params, self.prepared, str(self.stores), *trained, self.place / "work")


def gained(own: Sequence[float], twins: Sequence[float]) -> dict[str, float | None]:
    """Returns by how many points networks are above their twins, seed by seed, and the standard
    deviation of that over the seeds.
    """
    gains = [100 * (one - other) for one, other in zip(own, twins, strict=True)]
    return {"gain (points)": mean(gains), "its sd": stdev(gains) if len(gains) > 1 else None}
