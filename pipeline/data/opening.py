"""Opens splits within a memory budget: in memory where they fit, else on disk."""

from pipeline.core.allocation import share_arenas
from pipeline.core.progress import say
from pipeline.data.budget import MemoryBudget, in_megabytes
from pipeline.data.dataset import ImageDataset
from pipeline.data.splits import Split


def open_splits(dataset: ImageDataset, budget: MemoryBudget, label_bytes: int) -> tuple[Split, Split]:
    """Returns the training and the validation split.

    Both are in memory where they take at most three quarters of the budget together, else on disk.
    Labels have no part in that choice, because it decides the order of an epoch: a student sees the
    same whoever is trained beside it.

    Args:
        label_bytes: Of one view of each store that is read; they are held beside inputs in memory.

    Raises:
        ConfigError: The inputs fit in memory, but not with the labels.
    """
    if not budget.holds(dataset.manifest, "train", "val"):
        _begin_streaming(dataset, budget, dataset.manifest.input_bytes("train", "val"))
        kept_bytes = budget.share(dataset.manifest.bytes_each)
        return dataset.stream("train", kept_bytes), dataset.stream("val")
    budget.check_whole(dataset.manifest.input_bytes("train", "val"), label_bytes)
    return dataset.split("train"), dataset.split("val")


def open_for_blocks(dataset: ImageDataset, budget: MemoryBudget, block_rows: int) -> Split:
    """Returns the training split, to be labelled block by block.

    It is in memory where it takes at most three quarters of the budget, else on disk.

    Raises:
        ConfigError: The budget is too small for the inputs of two blocks, of which one is read
            while the other is labelled.
    """
    data = dataset.manifest
    if budget.holds(data, "train"):
        return dataset.split("train")
    budget.check_blocks(data, block_rows)
    _begin_streaming(dataset, budget, data.input_bytes("train"))
    return dataset.stream("train")


def _begin_streaming(dataset: ImageDataset, budget: MemoryBudget, num_bytes: int) -> None:
    reason = f"more than three quarters of {budget}, so they are streamed from {dataset.folder}"
    say(f"{budget.where}: inputs take {in_megabytes(num_bytes):,.0f} MB, {reason}")
    share_arenas()
