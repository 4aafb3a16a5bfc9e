"""The things that are shown of some samples: pictures on sheets of tiles, or parts in words."""

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from pipeline.core.files import write_bytes
from pipeline.explanation.shown.base import PartShower, PictureShower, Sample, Shower
from pipeline.explanation.tiles import TileSheet, draw_map
from pipeline.results.explanation import Look, MapLook

TILES, MAPS = "tiles.png", "maps.png"
_DIGITS = 5  # of what a part adds, in nats


class Exhibit(Protocol):
    """The samples that are shown: each is added, and is known by what that returns."""

    def add(self, sample: Sample, plain: Sample | None = None) -> Look:
        """Shows a sample; a view where `plain` is the sample that it is of."""

    def add_map(self, sample: Sample, attribution: Float[np.ndarray, "..."]) -> MapLook:
        """Shows what a network's prediction on a sample rests on."""

    @property
    def tile_px(self) -> list[int] | None:
        """The height and width of tiles; None where there are none."""

    @property
    def sheets(self) -> tuple[str | None, str | None]:
        """The names of the sheets of pictures and of maps; None where there is none."""

    def write(self, folder: Path) -> None:
        """Writes the sheets; those of an earlier run are removed."""


class PictureExhibit(Exhibit):
    """A sheet of tiles with pictures of samples, and one with their maps."""

    def __init__(self, shower: PictureShower) -> None:
        self._shower = shower
        self._tiles, self._maps = TileSheet(*shower.picture_px), TileSheet(*shower.picture_px)

    def add(self, sample: Sample, plain: Sample | None = None) -> Look:
        return self._tiles.add(self._shower.picture(sample))

    def add_map(self, sample: Sample, attribution: Float[np.ndarray, "..."]) -> MapLook:
        return self._maps.add(draw_map(self._shower.picture(sample), attribution))

    @property
    def tile_px(self) -> list[int] | None:
        return list(self._tiles.tile_px)

    @property
    def sheets(self) -> tuple[str | None, str | None]:
        return TILES, MAPS if len(self._maps) else None

    def write(self, folder: Path) -> None:
        write_bytes(folder / TILES, self._tiles.png())
        (folder / MAPS).unlink(missing_ok=True)
        if len(self._maps):
            write_bytes(folder / MAPS, self._maps.png())


class PartExhibit(Exhibit):
    """An exhibit of parts, and of what each adds: all of it is in samples.json."""

    tile_px = None
    sheets = (None, None)

    def __init__(self, shower: PartShower) -> None:
        self._shower = shower

    def add(self, sample: Sample, plain: Sample | None = None) -> Look:
        return self._shower.parts(sample, plain)

    def add_map(self, sample: Sample, attribution: Float[np.ndarray, "..."]) -> MapLook:
        return [round(nats, _DIGITS) for nats in attribution[np.isfinite(attribution)].tolist()]

    def write(self, folder: Path) -> None:
        for name in (TILES, MAPS):
            (folder / name).unlink(missing_ok=True)


def exhibit_of(shower: Shower) -> Exhibit:
    """Returns an empty exhibit of samples that are shown in a way."""
    if isinstance(shower, PictureShower):
        return PictureExhibit(shower)
    assert isinstance(shower, PartShower), "samples are pictures or have parts"
    return PartExhibit(shower)
