"""Where raw images come from: one file per source, registered here by the name that `params.yaml` uses.

`prepare.source` is `{kind: <name here>, ...settings}`. A new source is a file here and a line in `SOURCES`.
"""

from pipeline.core.config import validate_kind
from pipeline.preparation.sources.base import SPLITS, RawImage, Source
from pipeline.preparation.sources.cifar import Cifar
from pipeline.preparation.sources.digits import Digits
from pipeline.preparation.sources.fashion_mnist import FashionMnist
from pipeline.preparation.sources.folder import Folder
from pipeline.preparation.sources.idx import Idx
from pipeline.preparation.sources.manifest import Manifest
from pipeline.preparation.sources.numpy_arrays import NumpyArrays
from pipeline.preparation.sources.parquet import Parquet
from pipeline.preparation.sources.webdataset import WebDataset

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
