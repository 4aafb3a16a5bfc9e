"""The sources whose images are arrays of pixels already, one for each split."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8

from pipeline.core.errors import SourceError
from pipeline.preparation.sources.base import RawImage, Source
from pipeline.preparation.sources.label_sets import Label, LabelReader, LabelSets
from pipeline.preparation.sources.labels import Classes
from pipeline.preparation.sources.survey import Survey

Layout = Literal["nhwc", "nchw"] | None


@dataclass(frozen=True)
class PixelSplit:
    """A split, or a part of it.

    Attributes:
        images: In memory, or on disk as a memory map.
        labels: Each image's class or, of independent classes, its entry for each class: 1, 0 or -1.
        where: The beginning of its keys.
    """

    split: str
    images: UInt8[np.ndarray, "samples channels height width"]
    labels: Shaped[np.ndarray, "labels ..."]
    where: str


class PixelSource(Source):
    """A source that only has to load its splits, which are kept for as long as the source is."""

    @abstractmethod
    def load(self, raw: Path) -> tuple[Classes, list[PixelSplit]]:
        """Returns the class names, and the splits."""

    def class_names(self, raw: Path) -> tuple[str, ...]:
        return self._surveyed(raw).class_names(self._loaded(raw)[0].names, f"source {self.kind!r}")

    def counts(self, raw: Path) -> Mapping[tuple[str, str | None], int]:
        return self._surveyed(raw).counts

    def split_sizes(self, raw: Path) -> Mapping[str, int]:
        return self._surveyed(raw).split_sizes

    def count(self, raw: Path) -> int:
        return sum(len(one.images) for one in self._loaded(raw)[1])

    def images(self, raw: Path, start: int = 0) -> Iterator[RawImage]:
        classes, splits = self._loaded(raw)
        for one in splits:
            names = self._labels(classes, one)
            for row in range(min(start, len(names)), len(names)):
                pixels = np.array(one.images[row])  # copied, so that no caller holds a whole split
                yield RawImage(one.split, names[row], f"{one.where}:{row}", pixels)
            start = max(start - len(names), 0)

    def __getstate__(self) -> dict[str, object]:
        """Returns the settings alone: another process loads the images again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_surveys")}

    def _loaded(self, raw: Path) -> tuple[Classes, list[PixelSplit]]:
        if raw not in self._kept:
            self._kept[raw] = self.load(raw)
        return self._kept[raw]

    @cached_property
    def _kept(self) -> dict[Path, tuple[Classes, list[PixelSplit]]]:
        return {}

    @cached_property
    def _surveys(self) -> dict[Path, Survey]:
        return {}

    def _surveyed(self, raw: Path) -> Survey:
        if raw not in self._surveys:
            classes, splits = self._loaded(raw)
            survey = Survey(self.notes, self.signal)
            for one in splits:
                where = f"source {self.kind!r}, {one.where}"
                if len(one.images) != len(one.labels):
                    found = f"{len(one.images):,} images and {len(one.labels):,} labels"
                    raise SourceError(where, found, expected="as many of both")
                distinct, _, counts = self._distinct(classes, one)
                for label, count in zip(distinct, counts, strict=True):
                    survey.add(one.split, label, self._reader(classes), where, count)
            self._surveys[raw] = survey
        return self._surveys[raw]

    def _labels(self, classes: Classes, one: PixelSplit) -> list[Label]:
        labels, places, _ = self._distinct(classes, one)
        reader, where = self._reader(classes), f"source {self.kind!r}, {one.where}"
        names = [reader.name(label, where) for label in labels]
        return [names[place] for place in places]

    def _reader(self, classes: Classes) -> LabelReader:
        return LabelSets(classes) if self.signal == "binary" else classes

    def _distinct(self, classes: Classes, one: PixelSplit) -> tuple[list[object], list[int], list[int]]:
        """Returns the different labels of a split, the place of each image's among them, and how
        many images have each.
        """
        axis = None if one.labels.ndim == 1 else 0
        found, places, counts = np.unique(one.labels, return_inverse=True, return_counts=True, axis=axis)
        labels: list[object] = found.tolist()
        if self.signal == "binary":
            labels = [dict(zip(classes.names or (), each, strict=True)) for each in found.tolist()]
        return labels, places.reshape(-1).tolist(), counts.tolist()


def channels_first(
    images: Shaped[np.ndarray, "..."], layout: Layout, where: object
) -> UInt8[np.ndarray, "samples channels height width"]:
    """Returns images as [samples, channels, height, width], without a copy, from N,H,W, N,H,W,C or
    N,C,H,W.

    `layout` None means the one in which there are 1 or 3 channels. Raises SourceError for any other
    array."""
    if images.dtype != np.uint8:
        raise SourceError(where, f"pixels of {images.dtype}", expected="uint8 (0 to 255)", fix="convert them")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise SourceError(where, f"an array of {images.shape}", expected="images in rows: N,H,W, N,H,W,C or N,C,H,W")
    fitting = [name for name, axis in (("nhwc", 3), ("nchw", 1)) if images.shape[axis] in (1, 3)]
    if layout is None and len(fitting) == 2:
        fix = "set `layout` to nhwc or nchw"
        raise SourceError(where, f"an array of {images.shape}, which may be N,H,W,C or N,C,H,W", fix=fix)
    if not fitting or (layout or fitting[0]) not in fitting:
        raise SourceError(where, f"an array of {images.shape}", expected=f"1 or 3 channels{_in(layout)}")
    return images.transpose(0, 3, 1, 2) if (layout or fitting[0]) == "nhwc" else images


def _in(layout: Layout) -> str:
    return f" in {','.join(layout.upper())}" if layout else ""
