"""Estimators such as scikit-learn's as teachers of rows: fitted at once on all rows, without torch.

`sklearn/<Name>`, `lightgbm/<Name>`, `xgboost/<Name>`, or `sklearn/<path>.py:<function>`: a function
`build(num_classes, sizes, **model_settings)` in a file of the user's that returns an object with
`fit(x, y)`, `predict_proba(x)` and `classes_`. The one file that imports scikit-learn's estimators.

They take float64 [rows, columns]. A column of numbers is the number of its bin, 0 where it is
missing: all that a tree asks is an order. A category is the mean of the labels of the training rows
that have it, each row's own fold left out. An object of the user's takes codes as they are.

References:
    Daniele Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in
    classification and prediction problems", 2001, section 3 (means, drawn towards the mean of all).
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64, Shaped
from torch import nn

from pipeline.core.errors import ConfigError, ModelError, suggest
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName
from pipeline.data.row_columns import ColumnType
from pipeline.models import user_file
from pipeline.models.estimator_files import count_numbers, read_estimators, write_estimators

FILE = "network.skops"
OWN_CODE = "network.py"  # the copy of the user's file
FLOOR = 1e-6  # of probabilities: a forest is sure, and a logit is finite
_LIBRARIES = ("sklearn", "lightgbm", "xgboost")
_PREFIXES = tuple(f"{library}/" for library in _LIBRARIES)
_FOLDS = 5
_SMOOTH = 20.0  # rows: so many of the mean of all are added to a category's own
_METHODS = ("fit", "predict_proba")


def is_estimator(name: str) -> bool:
    """Returns whether a network's name is an estimator's."""
    return name.startswith(_PREFIXES)


def source_file(name: str) -> Path | None:
    """Returns the user's file that an estimator's name is about, if it is about one."""
    own = name.partition("/")[2]
    return user_file.source_file(own) if user_file.is_user_file(own) else None


def check_rows(name: str, kind: InputKindName) -> None:
    """Raises ModelError where a name is an estimator's and the data is no rows."""
    if is_estimator(name) and kind != "row":
        raise ModelError(f"model {name!r}", f"is for rows, and the data is {INPUT_KINDS[kind].things}")


@dataclass(frozen=True)
class Fitting:
    """A recipe of an estimator: all that decides how it is fitted.

    Attributes:
        settings: Keyword arguments of what builds it.
        types: Of the columns of rows; `sizes` are their numbers of codes.
        seed: Of whatever is random in it.
    """

    name: str
    settings: Mapping[str, Any]
    num_classes: int
    types: Sequence[ColumnType]
    sizes: Sequence[int]
    seed: int

    def fit(
        self, rows: Int32[np.ndarray, "rows columns"], hard_labels: Shaped[np.ndarray, "rows ..."], folder: Path
    ) -> None:
        """Fits it on rows, all of which have a hard label, and writes it to `folder`.

        Where classes are independent there is one for each of them, fitted on its known entries.

        Raises ModelError where it can't be built or fitted.
        """
        independent = hard_labels.ndim == 2
        of_classes = hard_labels.T if independent else hard_labels[None]
        fitted = []
        with _explained(self.name):
            for number, labels in enumerate(of_classes):
                known = labels >= 0
                if len(np.unique(labels[known])) < 2:
                    what = (
                        f"class {number} is the same in every known row" if independent else "all rows are of a class"
                    )
                    raise ModelError(f"model {self.name!r}", what, expected="two classes to tell apart")
                x, y = rows[known].astype(np.float64), labels[known].astype(np.int64)
                encoder = self._encoder()
                x = x if encoder is None else encoder.fit_transform(x, y)
                fitted.append({"encoder": encoder, "estimator": self._estimator(folder).fit(x, y)})
        content = {"independent": independent, "num_classes": self.num_classes, "fitted": fitted}
        write_estimators(folder / FILE, content, self.name)

    def _encoder(self) -> Any:
        """Returns what replaces categories by means of labels; None where there is nothing to
        replace: a user's object is given codes.
        """
        from sklearn.compose import ColumnTransformer
        from sklearn.model_selection import KFold
        from sklearn.preprocessing import TargetEncoder

        categories = [place for place, kind in enumerate(self.types) if kind == "category"]
        if not categories or source_file(self.name) is not None:
            return None
        folds = KFold(_FOLDS, shuffle=True, random_state=self.seed % 2**32)
        return ColumnTransformer(
            [("means", TargetEncoder(smooth=_SMOOTH, cv=folds), categories)], remainder="passthrough"
        )

    def _estimator(self, folder: Path) -> Any:
        if source_file(self.name) is not None:
            own = self.name.partition("/")[2]
            found = user_file.call(own, folder / OWN_CODE, self.num_classes, list(self.sizes), **self.settings)
        else:
            kind = _class_named(self.name)
            known = list(inspect.signature(kind).parameters)
            if unknown := [key for key in self.settings if key not in known and "kwargs" not in known]:
                found = f"unknown setting {unknown[0]!r}"
                raise ModelError(f"model {self.name!r}", found, expected=suggest(unknown[0], known))
            random = {"random_state": self.seed % 2**31} if "random_state" in known else {}
            found = kind(**random | dict(self.settings))
        if lacking := [method for method in _METHODS if not hasattr(found, method)]:
            what = f"a {type(found).__name__} has no {lacking[0]!r}"
            raise ModelError(f"model {self.name!r}", what, expected=f"an object with {' and '.join(_METHODS)}")
        return found


class EstimatorNetwork(nn.Module):
    """A network of fitted estimators: no gradients, and arithmetic that is not torch's.

    Raises ModelError where the file is not whole.
    """

    floor: torch.Tensor

    def __init__(self, file: Path, name: str) -> None:
        super().__init__()
        from threadpoolctl import ThreadpoolController  # comes with scikit-learn

        self._name = name
        own = file.parent / OWN_CODE if source_file(name) is not None else None
        content = read_estimators(file, name, own)
        self._fitted, self._independent = content["fitted"], bool(content["independent"])
        self._num_classes = int(content["num_classes"])
        self.num_parameters = count_numbers(file)
        self._threads = ThreadpoolController()
        self.register_buffer("floor", torch.tensor(FLOOR, dtype=torch.float64))

    def __deepcopy__(self, memo: object) -> "EstimatorNetwork":
        """Returns itself: it has no state that changes."""
        return self

    def forward(self, codes: Int64[torch.Tensor, "batch columns"]) -> Float[torch.Tensor, "batch classes"]:
        """Returns logits: logarithms of probabilities, or log-odds of independent classes."""
        rows, floor = codes.detach().cpu().numpy().astype(np.float64), float(self.floor)
        # One thread: of a batch there is little to do, and OpenMP's wait for each other. On a busy
        # machine 512 rows took 957 ms with two of them, and 11 ms alone.
        with _explained(self._name), self._threads.limit(limits=1):
            each = [self._probabilities(one, rows) for one in self._fitted]
        if self._independent:
            yes = np.clip(np.stack([probs[:, 1] for probs in each], axis=1), floor, 1 - floor)
            logits = np.log(yes) - np.log1p(-yes)
        else:
            logits = np.log(np.maximum(each[0], floor))
        return torch.from_numpy(logits.astype(np.float32)).to(codes.device)

    def _probabilities(self, fitted: Any, rows: np.ndarray) -> np.ndarray:
        """Returns the probability of every class; one that no training row is of has 0."""
        probs = np.zeros((len(rows), max(2, self._num_classes)))
        if len(rows):
            encoder, estimator = fitted["encoder"], fitted["estimator"]
            x = rows if encoder is None else encoder.transform(rows)
            found = np.asarray(estimator.predict_proba(x), dtype=np.float64)
            if found.shape != (len(rows), len(estimator.classes_)):
                shape = f"predict_proba gives {list(found.shape)} for {len(rows)} rows"
                raise ModelError(f"model {self._name!r}", shape, expected="a probability for each class of `classes_`")
            probs[:, np.asarray(estimator.classes_, dtype=np.int64)] = found
        return probs


def _class_named(name: str) -> Any:
    library, _, wanted = name.partition("/")
    try:
        if library == "sklearn":
            from sklearn.utils import all_estimators

            known = dict(all_estimators(type_filter="classifier"))
        else:
            module = import_module(library)
            known = {key: getattr(module, key) for key in dir(module) if key.endswith("Classifier")}
    except ImportError as error:
        fix = f"pip install {'scikit-learn' if library == 'sklearn' else library}"
        raise ModelError(f"model {name!r}", f"{library} can't be imported ({error})", fix=fix) from None
    if wanted not in known:
        raise ModelError(
            f"model {name!r}", f"{library} has no classifier {wanted!r}", expected=suggest(wanted, list(known))
        )
    return known[wanted]


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns errors of an estimator's library into a line; its warnings are not the user's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ModelError, ConfigError, MemoryError):
        raise
    except Exception as error:  # a library, or the user's object, may raise anything
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"model {name!r}", f"fails ({type(error).__name__}: {line})") from error
