"""The labels of one view, in memory as far as they were asked for."""

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.core.errors import StoreError
from pipeline.core.memory import need_room
from pipeline.labels.fields import SomeLabels
from pipeline.labels.join import label_bytes
from pipeline.labels.reader import StoreReader


class HeldView:
    """The labels of one view of a store: a block is read, and checked against its digest, when one
    of its rows is first asked for.

    Raises StoreError where all of them are more than this machine's memory.
    """

    def __init__(self, store: StoreReader, view_index: int) -> None:
        self._store, self._view_index, manifest = store, view_index, store.manifest
        try:
            need_room(label_bytes(store))
        except ValueError as error:
            raise StoreError(store.location, f"the labels of a view: {error}") from None
        # Memory that was never written to is not taken yet.
        self._values = {
            name: np.empty((manifest.num_samples, *field.shape), field.dtype)
            for name, field in store.encoding.row_arrays(manifest.space).items()
        }
        self._is_there = np.zeros(manifest.blocks_per_view, dtype=bool)

    def take(self, rows: Int64[np.ndarray, " some"]) -> SomeLabels:
        """Returns the labels of some rows, in any order; raises StoreError where a block is
        damaged.
        """
        blocks = np.unique(rows // self._store.manifest.block_samples)
        missing = blocks[~self._is_there[blocks]]
        # Blocks side by side are read at once: each reading takes a millisecond a field.
        for together in np.split(missing, np.flatnonzero(np.diff(missing) != 1) + 1):
            if len(together):
                self._read(int(together[0]), int(together[-1]) + 1)
        return {name: torch.from_numpy(values[rows]) for name, values in self._values.items()}

    def _read(self, first: int, after: int) -> None:
        size, count = self._store.manifest.block_samples, self._store.manifest.num_samples
        rows = range(first * size, min(after * size, count))
        for name, values in self._store.read_view(self._view_index, rows).items():
            self._values[name][rows.start : rows.stop] = values.numpy()
        self._is_there[first:after] = True
