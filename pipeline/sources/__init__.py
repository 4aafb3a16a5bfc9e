"""Where raw images come from: one file per source, registered here by the name that `params.yaml` uses.

`prepare.source` is `{kind: <name here>, ...settings}`. A new source is a file here and a line in `SOURCES`.
"""

from pipeline.config import validate_kind
from pipeline.sources.base import SPLITS, RawImage, Source
from pipeline.sources.cifar import Cifar
from pipeline.sources.digits import Digits
from pipeline.sources.fashion_mnist import FashionMnist
from pipeline.sources.folder import Folder
from pipeline.sources.idx import Idx
from pipeline.sources.manifest import Manifest
from pipeline.sources.numpy_arrays import NumpyArrays
from pipeline.sources.parquet import Parquet
from pipeline.sources.webdataset import WebDataset

SOURCES: dict[str, type[Source]] = {
    "fashion_mnist": FashionMnist,
    "digits": Digits,
    "folder": Folder,
    "manifest": Manifest,
    "webdataset": WebDataset,
    "parquet": Parquet,
    "cifar": Cifar,
    "idx": Idx,
    "arrays": NumpyArrays,
}

__all__ = ["SOURCES", "SPLITS", "RawImage", "Source", "build_source"]


def build_source(row: object, where: str) -> Source:
    """The source that a row of settings names; raises ConfigError where kind or settings are wrong."""
    source: Source = validate_kind(SOURCES, row, where)
    return source
