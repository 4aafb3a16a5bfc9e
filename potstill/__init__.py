"""Potstill as a library: stored soft labels in anyone's training loop (docs/library.md).

Importing it loads nothing; each name is loaded when it is first used. It is all that is promised:
names elsewhere may change with any version.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.core.errors import PipelineError as PotstillError
    from pipeline.labels.targets import SparseTargets
    from pipeline.library.dataset import DistillationDataset
    from pipeline.library.ids import sample_ids
    from pipeline.library.items import Item, MixedItem, collate
    from pipeline.library.label_dataset import LabelSettings, label_dataset
    from pipeline.library.labels import Labels, open_labels
    from pipeline.library.loader import LabelledLoader
    from pipeline.student.batches import LabelledBatch
    from pipeline.views.spec import ViewSpec
    from potstill import losses

__all__ = [
    "DistillationDataset",
    "Item",
    "LabelSettings",
    "LabelledBatch",
    "LabelledLoader",
    "Labels",
    "MixedItem",
    "PotstillError",
    "SparseTargets",
    "ViewSpec",
    "collate",
    "label_dataset",
    "losses",
    "open_labels",
    "sample_ids",
]

#: The module that each name lies in, and its name there.
_HOMES = {
    "DistillationDataset": ("pipeline.library.dataset", "DistillationDataset"),
    "Item": ("pipeline.library.items", "Item"),
    "LabelSettings": ("pipeline.library.label_dataset", "LabelSettings"),
    "LabelledBatch": ("pipeline.student.batches", "LabelledBatch"),
    "LabelledLoader": ("pipeline.library.loader", "LabelledLoader"),
    "Labels": ("pipeline.library.labels", "Labels"),
    "MixedItem": ("pipeline.library.items", "MixedItem"),
    "PotstillError": ("pipeline.core.errors", "PipelineError"),
    "SparseTargets": ("pipeline.labels.targets", "SparseTargets"),
    "ViewSpec": ("pipeline.views.spec", "ViewSpec"),
    "collate": ("pipeline.library.items", "collate"),
    "label_dataset": ("pipeline.library.label_dataset", "label_dataset"),
    "open_labels": ("pipeline.library.labels", "open_labels"),
    "sample_ids": ("pipeline.library.ids", "sample_ids"),
}


def __getattr__(name: str) -> Any:
    """Loads a name when it is first used."""
    if name == "__version__":
        return version("potstill")
    if name == "losses":
        return import_module("potstill.losses")
    if name not in _HOMES:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    module, there = _HOMES[name]
    globals()[name] = found = getattr(import_module(module), there)
    return found


def __dir__() -> list[str]:
    """Lists the names, loaded or not."""
    return [*__all__, "__version__"]
