"""scikit-learn's hand-written digits: 1,797 grey images of 8 x 8 pixels that come with the package. For tests and trials.

References:
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from pathlib import Path

import numpy as np

from pipeline.errors import SourceError
from pipeline.sources.raw import RawDataset

_NUM_TEST = 360


def load(raw: Path) -> RawDataset:
    """The digits in their published order; the last 360 are the test set. Nothing is read from `raw`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        mend = "install the extra `pipeline` (`make repro` does)"
        raise SourceError("source 'digits'", f"scikit-learn can't be imported ({error})", mend=mend) from None
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    return RawDataset(
        class_names=tuple(str(name) for name in digits.target_names),
        train_images=images[:-_NUM_TEST],
        train_hard_labels=labels[:-_NUM_TEST],
        test_images=images[-_NUM_TEST:],
        test_hard_labels=labels[-_NUM_TEST:],
    )
