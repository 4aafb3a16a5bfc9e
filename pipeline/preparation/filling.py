"""A pool filled with all samples of a source, in one form that holds every one of them.

Any number of processes do so together: each takes pieces that nobody holds, from the first of its
own on. What a piece holds does not depend on who fills it.

The form that a look at some images found is taken first. Where an image asks for a wider one
(colour among grey, more bits), all processes begin again in that: so the form depends on all
images, and a second pass is paid only where the look did not see it.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.files import fingerprint, read_json, write_json
from pipeline.core.progress import say
from pipeline.core.threads import map_in_order, usable_cores
from pipeline.preparation.division import Range, ranges_of
from pipeline.preparation.form import Form
from pipeline.preparation.numbering import Numbering
from pipeline.preparation.piece import Piece, WiderImageError, is_whole
from pipeline.preparation.pool import Pool
from pipeline.preparation.site import Site
from pipeline.preparation.sources.base import RawImage, Source

_WAIT_SECONDS = 0.2
_LOOK_SECONDS = 1.0  # between looks at the form that others have
_TELL_SECONDS = 0.1  # between counts of samples


class OutdatedFormError(Exception):
    """An error that another process has begun again in a wider form."""


@dataclass
class Samples:
    """The samples of a source, read on from where the last ones ended: a source that is a table
    reads what lies before them, too.
    """

    source: Source
    raw: Path
    _place: int = -1
    _rest: Iterator[RawImage] = field(default_factory=lambda: iter(()))

    def take(self, start: int, count: int | None) -> Iterator[RawImage]:
        """Yields so many samples from a number on."""
        if start != self._place:
            self._place, self._rest = start, self.source.images(self.raw, start)
        for sample in islice(self._rest, count):
            self._place += 1
            yield sample


@dataclass
class Filling:
    """The work of filling a pool.

    Attributes:
        form: The one that was found; replaced where an image asks for a wider one.
    """

    site: Site
    source: Source
    raw: Path
    numbering: Numbering
    form: Form

    def run(self, on_samples: Callable[[int], object]) -> None:
        """Fills pieces until every one is whole, by this process or another.

        Args:
            on_samples: Called with the number of samples since the last call, those of others
                included.
        """
        while True:
            self._settle()
            try:
                self._fill_all(on_samples)
            except WiderImageError as found:
                self._widen(found)
            except OutdatedFormError:
                continue
            else:
                return

    def pool(self) -> Pool | None:
        """Returns the pool; None where a piece is damaged, which is forgotten.

        Nobody may be filling it. Raises PipelineError where another process has cleared it: it has
        refused the data, or published.
        """
        if not self._folder.exists() and self._ranges():
            found = "another process has given up what was made ready here"
            raise PipelineError(self._folder, found, fix="look at its message, then run the same command again")
        pieces = [self._piece(one) for one in self._ranges()]
        if not all(piece.is_whole for piece in pieces):
            return None
        pool = Pool(self._folder, self.form, self.numbering, pieces)
        pool.check_shapes()
        return pool

    def _ranges(self) -> list[Range]:
        return ranges_of(self.source, self.raw)

    def _fill_all(self, on_samples: Callable[[int], object]) -> None:
        waiting, samples = self._ranges(), Samples(self.source, self.raw)
        first = self.site.worker.first(len(waiting))
        waiting = [*waiting[first:], *waiting[:first]]
        while waiting:
            held_by_others = []
            for one in waiting:
                if self._is_whole(one, on_samples):
                    continue
                with self.site.claims.attempt(f"{self._folder.name}-{one.name}") as mine:
                    if self._is_whole(one, on_samples):
                        continue
                    if mine:
                        self.site.check()
                        self._fill(one, samples, on_samples)
                    else:
                        held_by_others.append(one)
            waiting = held_by_others
            if waiting:
                time.sleep(_WAIT_SECONDS)
                self._check_form()

    def _is_whole(self, one: Range, on_samples: Callable[[int], object]) -> bool:
        """Returns whether a piece is whole, and counts its samples then."""
        if not is_whole(self._folder / one.name):
            return False
        on_samples(one.expected or 0)
        return True

    def _fill(self, one: Range, samples: Samples, on_samples: Callable[[int], object]) -> None:
        try:
            piece = self._piece(one)
            on_samples(piece.num_taken)
            rest = None if one.count is None else one.count - piece.num_taken
            found = samples.take(one.start + piece.num_taken, rest)
            # Alone with all samples, threads share the work; else processes do, which is faster,
            # because half of what small images take holds Python's lock.
            make = self.form.make
            looked = told = time.monotonic()
            waiting = 0
            with closing(map_in_order(make, found, usable_cores() if one.is_all else 1)) as made:
                for taken in piece.fill(made):
                    waiting, now = waiting + taken, time.monotonic()
                    if now - told > _TELL_SECONDS:
                        on_samples(waiting)
                        waiting, told = 0, now
                    if now - looked > _LOOK_SECONDS:
                        self._check_form()
                        looked = now
            on_samples(waiting)
        except FileNotFoundError:
            self._check_form()  # who has begun again has cleared the pool
            raise

    @property
    def _record(self) -> Path:
        return self.site.folder / "form.json"

    @property
    def _folder(self) -> Path:
        return self.site.folder / f"pool-{fingerprint(self.form.found())[:8]}"

    def _piece(self, one: Range) -> Piece:
        folder = self._folder
        return Piece(folder / one.name, self.form, self.numbering, one.expected, folder / "first.json")

    def _settle(self) -> None:
        """Takes the form that others have; where there are none, they get this process's."""
        self.site.check()
        with self.site.claims.hold("form"):
            if self._record.exists():
                self.form = self.form.with_found(read_json(self._record, made_by="prepare"))
            else:
                write_json(self._record, self.form.found())

    def _check_form(self) -> None:
        """Raises OutdatedFormError where others have another form."""
        if self._record.exists() and read_json(self._record, made_by="prepare") != self.form.found():
            raise OutdatedFormError

    def _widen(self, found: WiderImageError) -> None:
        """Makes a wider form everyone's, unless another process has been faster."""
        with self.site.claims.hold("form"):
            try:
                self._check_form()
            except OutdatedFormError:
                return
            say(f"prepare: {found}; beginning again, so that all images are alike")
            write_json(self._record, found.form.found())
            shutil.rmtree(self._folder, ignore_errors=True)
            self.form = found.form
