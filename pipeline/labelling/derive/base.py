"""The interface of a derivation, and the run that survives a kill."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.core.errors import StoreError
from pipeline.core.files import fingerprint
from pipeline.core.progress import progress
from pipeline.core.scratch import Scratch
from pipeline.labels.manifest import Manifest
from pipeline.labels.reader import StoreReader
from pipeline.labels.servers import is_url


def _ignore(count: int) -> None:
    """Does nothing with the number of labels."""


@dataclass(frozen=True)
class Destination:
    """The place of a new store.

    Attributes:
        store: The folder of the store.
        records: A folder for the records of its blocks, by which a killed run goes on.
        on_labels: Called with the number of labels that have been written since the last call.
    """

    store: Path
    records: Path
    on_labels: Callable[[int], object] = _ignore


class Derivation(ABC):
    """A way to make a store from finished ones."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def sources(self) -> Sequence[StoreReader]:
        """The stores that the labels come from."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that decide the labels, besides the sources, as plain JSON."""

    @property
    @abstractmethod
    def num_labels(self) -> int:
        """The number of labels of the new store."""

    @abstractmethod
    def make(self, to: Destination) -> Manifest:
        """Writes the new store, or the rest of one that a killed run began.

        Raises:
            StoreError: Where the sources can't make such a store.
        """


def derive_store(derivation: Derivation, out: str, work: Path) -> None:
    """Makes a store in a scratch folder under `work`, and gives it its name when it is finished.

    Raises:
        StoreError: Where `out` is a URL or exists already, or where the sources can't make such a
        store.
    """
    if is_url(out):
        raise StoreError(out, "a URL can't be written to", expected="a folder that does not exist yet")
    decides = {
        "command": derivation.kind,
        "sources": [store.manifest.fingerprint for store in derivation.sources],
        "arguments": fingerprint(derivation.settings),
    }
    # The file of the derivation's own class imports this one, so its closure is all the code that
    # decides. The result is not kept in `work`: it is a user's own, who may want its room.
    scratch = Scratch(Path(out), decides, work, code=Path(inspect.getfile(type(derivation))), keep=False)
    if Path(out).exists() and not scratch.done:
        raise StoreError(out, "exists already", expected="a new name", fix="delete it or choose another one")
    with scratch:
        if not scratch.done:
            with progress(f"derive_labels {derivation.kind}", derivation.num_labels, "label") as on_labels:
                derivation.make(Destination(scratch.output, scratch.folder / "records", on_labels))
            scratch.publish()
