"""All views of all samples of several stores of one teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np

from pipeline.core.errors import StoreError
from pipeline.labelling.derive.assemble import assemble
from pipeline.labelling.derive.base import Derivation, Destination
from pipeline.labelling.derive.checks import need_same
from pipeline.labelling.takeover import EarlierStore
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples


@final
@dataclass(frozen=True)
class Merge(Derivation):
    """A store of all views of all samples of several stores of one teacher, encoding and ViewSpec.

    Of several stores with a label, the first one gives it.
    """

    kind: ClassVar[str] = "merge"

    stores: Sequence[StoreReader]

    @property
    def sources(self) -> Sequence[StoreReader]:
        """The stores in the order in which they are asked for a label."""
        return self.stores

    @property
    def settings(self) -> dict[str, Any]:
        """An empty table: the stores decide everything."""
        return {}

    @property
    def num_labels(self) -> int:
        """The number of views in any store times that of samples in any store."""
        return len(self._views()) * len(StoredSamples.together([store.samples for store in self.stores]))

    def make(self, to: Destination) -> Manifest:
        """Writes the labels as they are stored.

        Raises:
            StoreError: Where the stores differ in what decides a label, or where a view of a sample
            is in none.
        """
        first = self.stores[0]
        for other in self.stores[1:]:
            need_same(first, other)
        views, samples = self._views(), self._samples()
        sources = [EarlierStore(store, samples) for store in self.stores]
        for view in views:
            here = np.zeros(len(samples), dtype=bool)
            for source in sources:
                here |= (source.rows >= 0) & source.has_view(view)
            if not here.all():
                raise StoreError(
                    first.location,
                    f"view {view} of {int((~here).sum())} of {len(samples)} samples is in none of the stores",
                    expected="every view of every sample",
                    fix="dump these, or take a subset first",
                )
        return assemble(sources, replace(first.manifest, view_numbers=views), samples, to)

    def _views(self) -> list[int]:
        return sorted({view for store in self.stores for view in store.manifest.view_numbers})

    def _samples(self) -> StoredSamples:
        """Returns the samples of all stores, each at its first place.

        Samples of mixed views, repeated ones too, are the same in all stores and keep their places.
        """
        first = self.stores[0]
        if first.views.mixes:
            return first.samples
        return StoredSamples.together([store.samples for store in self.stores])
