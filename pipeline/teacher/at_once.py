"""An estimator fitted as a teacher: on all training rows at once, by their hard labels, without
views.
"""

import time
from pathlib import Path

import numpy as np

from pipeline.core.progress import say
from pipeline.data.budget import MemoryBudget
from pipeline.data.splits import Split
from pipeline.models.estimators import Fitting, check_rows
from pipeline.models.saved import ModelMeta

_AT_ONCE = 4096  # rows that are read


def fit_at_once(meta: ModelMeta, split: Split, budget: MemoryBudget | None, folder: Path, seed: int) -> float:
    """Fits the estimator that `meta` names, writes it to `folder`, and returns the seconds.

    Args:
        split: The training rows, all with a hard label. They are all held in memory.
        budget: The memory that a split on disk is read by; None where it is in memory.

    Raises ModelError where it is of other data, or can't be fitted.
    """
    check_rows(meta.model, meta.kind.name)
    assert meta.input is not None, "it is of rows"
    columns = meta.input["columns"]
    types, sizes = ([column[key] for column in columns] for key in ("type", "num_codes"))
    fitting = Fitting(meta.model, meta.model_settings, len(meta.class_names), types, sizes, seed)
    start = time.monotonic()
    rows = np.concatenate([some.cpu().numpy() for some in split.in_order(_AT_ONCE, budget=budget)])
    fitting.fit(rows, split.hard_labels.cpu().numpy(), folder)
    seconds = time.monotonic() - start
    say(f"train_teacher: {meta.model} was fitted on {len(rows):,} rows in {seconds:.1f} s")
    return seconds
