"""Any number of processes prepare one data set: the same bytes, whoever dies, comes late or
helps.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_split
from faults import die_at, ended, fork, wait_for
from test_prepare import SHAPE, Given, Project, files_of, images_of, make_source, small_blocks

from pipeline.preparation import division, helpers, listing
from pipeline.preparation.division import ranges_of
from pipeline.preparation.piece import is_whole
from pipeline.preparation.sources.base import RawImage
from pipeline.sharing.workers import Worker
from stages import prepare

__all__ = ["small_blocks"]  # a fixture


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "project", monkeypatch)


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "other", monkeypatch)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes 16 pieces of the 64 images."""
    monkeypatch.setattr(division, "_LEAST", 4)


class Workers:
    """A number of processes that prepare one data set."""

    def __init__(self, project: Project) -> None:
        self._project, self._processes = project, list[int]()
        self.said = project.folder.parent / "said.txt"

    def start(self, source: Given, number: int, count: int, kill_at: int = -1, **settings: Any) -> None:
        def work() -> None:
            die_at(kill_at)
            real = prepare.main

            def main(*paths: Path) -> None:
                real(*paths, worker=f"{number}/{count}")

            prepare.main = main
            self._project.run(source, **settings)

        self._processes.append(fork(work, self.said))

    def ended(self) -> list[int]:
        return [ended(process) for process in self._processes]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("storage", "count"), [("pixels", 2), ("encoded", 3)])
def test_workers_make_the_same_bytes_as_one_process(project: Project, other: Project, storage: str, count: int) -> None:
    source = make_source(encoded=True)
    other.run(source, storage=storage)
    workers = Workers(project)
    for number in range(count):
        workers.start(source, number, count, storage=storage)
    assert workers.ended() == [0] * count, workers.said.read_text()
    assert files_of(project.out) == files_of(other.out)
    assert not list(project.work.glob("prepare-*"))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(3))
def test_workers_may_die_and_come_late(project: Project, other: Project, seed: int) -> None:
    source = make_source(encoded=True)
    other.run(source)
    steps = np.random.default_rng(seed).integers(5, 150, 4).tolist()
    for round_of in range(2):
        workers = Workers(project)
        for number, step in enumerate(steps[2 * round_of :][:2]):
            workers.start(source, number, 3, kill_at=step)
        assert set(workers.ended()) <= {0, -signal.SIGKILL}, workers.said.read_text()
    late = Workers(project)
    late.start(source, 0, 2)
    late.start(source, 1, 2)
    assert late.ended() == [0, 0], late.said.read_text()
    assert files_of(project.out) == files_of(other.out)


@dataclass(frozen=True)
class Slow(Given):
    """A source whose last images come when a file is there, except where they are listed; it notes
    when they are waited for.
    """

    folder: Path = Path()
    passes: list[int] = field(default_factory=list)

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        self.passes.append(start)
        for number, image in enumerate(super().images(raw, start), start):
            if number >= 60 and len(self.passes) > 1 and not (self.folder / "free").exists():
                (self.folder / "waited").touch()
                wait_for((self.folder / "free").exists)
            yield image


def test_a_late_worker_takes_what_nobody_holds_and_what_a_dead_one_held(
    project: Project, other: Project, tmp_path: Path
) -> None:
    source = Slow(make_source(encoded=True).given, folder=tmp_path)
    other.run(make_source(encoded=True))
    first, late = Workers(project), Workers(project)
    first.start(source, 0, 1)
    wait_for((tmp_path / "waited").exists)
    assert sum(map(is_whole, project.work.glob("prepare-*/pool-*/*"))) == 15
    os.kill(first._processes[0], signal.SIGKILL)
    (tmp_path / "free").touch()
    late.start(source, 0, 1)
    assert first.ended() == [-signal.SIGKILL]
    assert late.ended() == [0], late.said.read_text()
    assert files_of(project.out) == files_of(other.out)


def test_an_image_that_asks_for_a_wider_form_makes_all_workers_begin_again(
    project: Project, other: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LISTING_SECONDS", 0.0)
    monkeypatch.setattr(listing.list_images, "__defaults__", (0.0,))
    grey = images_of(make_split(63, shape=(1, *SHAPE[1:])), encoded=True)
    coloured = images_of(make_split(1, shape=SHAPE, seed=5), "test", encoded=True)
    source = Given((*grey, *(replace(one, label=grey[0].label) for one in coloured)))
    other.run(source)
    workers = Workers(project)
    for number in range(3):
        workers.start(source, number, 3)
    assert workers.ended() == [0, 0, 0], workers.said.read_text()
    assert workers.said.read_text().count("has colour; beginning again") == 1
    assert files_of(project.out) == files_of(other.out)


def test_what_is_refused_ends_every_worker(project: Project) -> None:
    source = make_source(encoded=True)
    broken = (*source.given[:30], replace(source.given[30], content=b"no image"), *source.given[31:])
    workers = Workers(project)
    for number in range(3):
        workers.start(Given(broken), number, 3)
    assert workers.ended() == [1, 1, 1]
    assert "not an image" in workers.said.read_text()
    assert not project.out.exists()


def test_helpers_make_the_same_bytes(
    project: Project, other: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Helpers are new processes, which have nothing that a test has replaced.
    for image in make_source(encoded=True).given:
        path = tmp_path / "pets" / image.split / str(image.label) / f"{image.key[-3:]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.content)  # type: ignore[arg-type]
    source = {"kind": "folder", "path": str(tmp_path / "pets")}
    other.run(source)
    begun = list[helpers.Helpers]()
    real = helpers.Helpers._begin

    def begin(helped: helpers.Helpers) -> None:
        real(helped)
        begun.append(helped)
        wait_for(lambda: all(process.poll() is None for process in helped._helpers))

    monkeypatch.setattr(helpers.Helpers, "_begin", begin)
    monkeypatch.setattr(helpers, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(helpers, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(helpers, "usable_cores", lambda: 2)
    project.run(source)
    assert begun
    assert all(process.poll() is not None for process in begun[0]._helpers)
    assert files_of(project.out) == files_of(other.out)


def test_the_division_depends_on_the_source_alone() -> None:
    class Bordered(Given):
        def borders(self, raw: Path) -> list[int]:
            return [3, 6, 40, 60, 64]

    def starts(source: Given) -> list[int]:
        ranges = ranges_of(source, Path())
        assert [one.start + (one.expected or 0) for one in ranges[:-1]] == [one.start for one in ranges[1:]]
        assert ranges[-1].count is None
        return [one.start for one in ranges]

    given = make_source().given
    assert starts(Given(given)) == list(range(0, 64, 4))
    assert starts(Bordered(given)) == [0, 6, 40, 60]
    assert [one.is_all for one in ranges_of(Given(given, counted=False), Path())] == [True]
    assert Worker(1, 2).first(16) == 8


def test_a_helper_begins_without_torch() -> None:
    code = "import sys, pipeline.preparation.helpers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
