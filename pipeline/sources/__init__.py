"""Where raw images come from: one file per source, each with `load(raw: Path) -> RawDataset`.

A new source is a file here and a line in `SOURCES`.
"""

from pathlib import Path

from pipeline.errors import SourceError, suggest
from pipeline.sources import digits, fashion_mnist
from pipeline.sources.raw import RawDataset

SOURCES = {"digits": digits.load, "fashion_mnist": fashion_mnist.load}


def load_source(name: str, raw: Path) -> RawDataset:
    """The images and hard labels of a source, which may look for files in (and download them to) `raw/<name>`."""
    if name not in SOURCES:
        raise SourceError(f"source {name!r}", "unknown", expected=suggest(name, list(SOURCES)))
    dataset = SOURCES[name](raw / name)
    dataset.check(name)
    return dataset
