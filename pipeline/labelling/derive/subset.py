"""Some views of some samples of a store."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, final

from pipeline.core.errors import StoreError
from pipeline.labelling.derive.assemble import assemble
from pipeline.labelling.derive.base import Derivation, Destination
from pipeline.labelling.takeover import EarlierStore
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples


@final
@dataclass(frozen=True)
class Subset(Derivation):
    """A store of some views of some samples of another one.

    Its fidelity is that of the chosen views over all samples that the store was dumped for.

    Attributes:
        views: Numbers of views; None for all.
        samples: In the order of the new store; None for all.
    """

    kind: ClassVar[str] = "subset"

    store: StoreReader
    views: Sequence[int] | None = None
    samples: StoredSamples | None = None

    @property
    def sources(self) -> Sequence[StoreReader]:
        """The one store."""
        return [self.store]

    @property
    def settings(self) -> dict[str, Any]:
        """The views and the samples."""
        return {"views": self._views, "samples": [f"{key:016x}" for key in self._samples.keys.tolist()]}

    @property
    def num_labels(self) -> int:
        """The number of chosen views of chosen samples."""
        return len(self._views) * len(self._samples)

    def make(self, to: Destination) -> Manifest:
        """Writes the chosen labels as they are stored.

        Raises:
            StoreError: Where a view or a sample is not in the store, or where views are mixed of
            two images and some
                of the images would be missing.
        """
        _need_views(self.store, self._views)
        source = EarlierStore(self.store, self._samples)
        if lost := int((source.rows < 0).sum()):
            found = f"has no label for {lost} of {len(self._samples)} samples"
            raise StoreError(self.store.location, found, expected="samples of this store")
        if self.store.views.mixes and not self.store.samples.same(self._samples):
            raise StoreError(
                self.store.location,
                "its views are mixed of two images, and some of its samples would lack the other one",
                expected="all of its samples in their order",
                fix="choose among its views alone",
            )
        samples = self.store.samples.take(source.rows)  # with keys as short as they are there
        return assemble([source], replace(self.store.manifest, view_numbers=self._views), samples, to)

    @cached_property
    def _views(self) -> list[int]:
        return list(self.store.manifest.view_numbers if self.views is None else self.views)

    @cached_property
    def _samples(self) -> StoredSamples:
        return self.store.samples if self.samples is None else self.samples


def _need_views(store: StoreReader, views: Sequence[int]) -> None:
    """Raises StoreError unless the store has all these views, each named once."""
    there = store.manifest.view_numbers
    if not views or len(set(views)) < len(views) or not set(views) <= set(there):
        raise StoreError(store.location, f"views {list(views)} asked for", expected=f"some of {there}, each once")
