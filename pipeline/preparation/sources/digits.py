"""scikit-learn's hand-written digits: 1,797 grey images of 8 x 8 pixels that come with the package.
For tests and trials.

References:
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.core.errors import SourceError
from pipeline.preparation.sources.labels import Classes
from pipeline.preparation.sources.pixels import PixelSource, PixelSplit

_NUM_TEST = 360


@dataclass(frozen=True, config=STRICT)
class Digits(PixelSource):
    """The digits in their published order; the last 360 are the test set. Nothing is read from
    `raw`.
    """

    kind: ClassVar[str] = "digits"

    def load(self, raw: Path) -> tuple[Classes, list[PixelSplit]]:
        """Loads the package's images; their 17 grey levels are spread over 0 to 255."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            fix = "install the extra `pipeline` (`make repro` does)"
            raise SourceError("source 'digits'", f"scikit-learn can't be imported ({error})", fix=fix) from None
        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]
        return Classes(tuple(str(name) for name in digits.target_names)), [
            PixelSplit("train", images[:-_NUM_TEST], digits.target[:-_NUM_TEST], "train"),
            PixelSplit("test", images[-_NUM_TEST:], digits.target[-_NUM_TEST:], "test"),
        ]
