"""A store of labels that is open: what it states about itself, and its soft targets."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from pipeline.core.errors import ConfigError, StoreError, listed
from pipeline.data.sample_ids import SampleIndex
from pipeline.labels.notes import notes_of
from pipeline.labels.position_targets import PositionTargets
from pipeline.labels.reader import StoreReader
from pipeline.labels.samples import StoredSamples
from pipeline.labels.servers import is_url
from pipeline.labels.targets import SparseTargets
from pipeline.library.arguments import need_number
from pipeline.library.held_view import HeldView
from pipeline.library.ids import as_ids
from pipeline.library.remedies import REMEDIES
from pipeline.views.spec import ViewSpec


class Labels:
    """A store of soft labels: one teacher's predictions for some views of some images.

    It can be sent to another process, which opens the store again.

    Raises:
        StoreError: There is no store, or it is damaged.
    """

    def __init__(self, place: str | Path) -> None:
        self._place = place if is_url(place) else Path(place).absolute()
        if isinstance(self._place, Path):
            _need_a_store(self._place)
        #: The reader of all that is in the store.
        self.store = StoreReader(self._place, REMEDIES)
        if self.store.manifest.positions is not None:
            found, fix = "holds labels of classes at positions", "students' rows of params.yaml learn from them"
            raise StoreError(self.store.location, found, expected="one label for each view", fix=fix)
        self._held: tuple[int, HeldView] | None = None

    def __reduce__(self) -> tuple[type["Labels"], tuple[str | Path]]:
        return type(self), (self._place,)

    @property
    def location(self) -> str:
        """The path or the URL."""
        return self.store.location

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the targets."""
        return list(self.store.manifest.class_names)

    @property
    def num_samples(self) -> int:
        """The number of images."""
        return self.store.manifest.num_samples

    @property
    def views(self) -> list[int]:
        """The numbers of the views that have labels."""
        return list(self.store.manifest.view_numbers)

    @property
    def notes(self) -> list[str]:
        """The lines about what the labels stand for, where that is not what the views show."""
        return notes_of(self.store.manifest.teacher)

    @property
    def view_spec(self) -> ViewSpec:
        """The settings that views are made by."""
        return self.store.views

    @property
    def encoding(self) -> dict[str, Any]:
        """The settings of the way that a label is kept in."""
        return dict(self.store.manifest.encoding)

    @property
    def temperature(self) -> float:
        """The temperature that the labels are stored at."""
        return self.store.manifest.temperature

    @property
    def temperatures(self) -> list[float]:
        """The declared temperatures at which targets can be had; dense stores have them at any."""
        return self.store.codec_temperatures

    @property
    def teacher(self) -> dict[str, Any]:
        """The facts about the teacher; empty where there are none."""
        return dict(self.store.manifest.teacher or {})

    @property
    def fidelity(self) -> dict[str, Any]:
        """The distance of the labels from the teacher, as it was measured; empty without labels."""
        return dict(self.store.manifest.fidelity or {})

    @property
    def label_bytes(self) -> float:
        """The mean bytes of a label on disk, without ids."""
        return self.store.manifest.label_bytes or 0.0

    def __len__(self) -> int:
        return self.num_samples

    def __repr__(self) -> str:
        kl = {t: f"{figures['mean']:.1e}" for t, figures in self.fidelity.get("kl_nats", {}).items()}
        lines = {
            "samples": f"{self.num_samples:,} in {len(self.views)} views (numbers {_ranges(self.views)})",
            "classes": f"{len(self.class_names):,}: {listed(self.class_names, 80)}",
            "encoding": ", ".join(f"{name} {value}" for name, value in self.encoding.items()),
            "bytes": f"{self.label_bytes:.2f} a label",
            "temperatures": f"{', '.join(f'{t:g}' for t in self.temperatures)} (stored at {self.temperature:g})",
            "teacher": f"{self.teacher.get('model', 'not named')}, {self.teacher.get('precision', 'float32')}",
            "mean KL": f"{', '.join(f'{value} at {t}' for t, value in kl.items()) or 'none'} (nats to the teacher)",
            "views": " then ".join(str(each["kind"]) for each in self.view_spec.to_dict()["operations"]) or "plain",
        }
        return "\n".join([f"Labels({self.location!r})", *(f"  {name:13} {text}" for name, text in lines.items())])

    def view_of(self, epoch: int) -> int:
        """Returns the number of an epoch's view: the views are taken in turn, from epoch 0 on."""
        return self.views[epoch % len(self.views)]

    def has(self, sample_ids: Any) -> Bool[np.ndarray, " samples"]:
        """Returns whether each sample has labels here."""
        return self._find(sample_ids) >= 0

    def targets(
        self, sample_ids: Any, view: int, temperature: float | None = None, *, sparse: bool = False
    ) -> Float[torch.Tensor, "samples classes"] | SparseTargets:
        """Returns the teacher's log-probabilities for one view of some samples, in their order.

        Blocks are checked against their digests as they are read. Those of one view are kept in
        memory until another view is asked for.

        Args:
            sample_ids: In any order, some of them twice if you like: what `sample_ids` made of the
                images, or what a data set gave with its items.
            view: Its number, one of `views`.
            temperature: Of both sides in the loss; None: the one that labels are stored at.
            sparse: False: every class. True: of encodings that keep a few classes (`topk` with
                `tail: rest`, `sampled`) these classes and the rest in one bucket.

        Raises:
            StoreError: A sample, the view or the temperature is not in the store, it keeps every
                class where a few are asked for, or a block is damaged.
        """
        rows = self._find(sample_ids)
        if unknown := int((rows < 0).sum()):
            first = int(as_ids(sample_ids)[rows < 0][0])
            found = f"has no labels for {unknown:,} of {len(rows):,} samples (the first: {first:016x})"
            fix = f"{REMEDIES.other_data}; `labels.has` has who is there"
            raise StoreError(self.location, found, fix=fix)
        self.need_targets(temperature, sparse=sparse)
        labels = self._held_view(view).take(rows)
        at = self.chosen(temperature)
        targets = self.store.codec.targets(labels, at) if sparse else self.store.decode(labels, at)
        assert not isinstance(targets, PositionTargets), "a store of these is refused when it is opened"
        return targets

    def need_targets(self, temperature: float | None = None, *, sparse: bool = False) -> None:
        """Raises StoreError where there can be no such targets of any sample."""
        encoding = self.store.encoding
        if not encoding.fields(self.store.manifest.space):
            fix = "open another store, or train without soft targets"
            raise StoreError(self.location, "holds views and no soft labels", fix=fix)
        if sparse and encoding.detail != "some classes":
            found = f"its labels ({self.encoding['kind']}) hold every class"
            raise StoreError(self.location, found, expected="sparse=False for this store")
        if not self.store.codec.serves(at := self.chosen(temperature)):
            served = ", ".join(f"{each:g}" for each in self.temperatures)
            fix = "or have LabelSettings(temperatures=...) name it, and label the images again"
            found = f"temperature {at:g}, which this store can't serve"
            raise StoreError(self.location, found, expected=f"one that was declared: {served}", fix=fix)

    def chosen(self, temperature: float | None) -> float:
        """Returns a temperature, by default the one that the labels are stored at; raises
        ConfigError where it is no number above 0.
        """
        return self.temperature if temperature is None else need_number("temperature", temperature, above=0)

    @cached_property
    def _index(self) -> SampleIndex:
        return SampleIndex(self.store.samples.keys)

    def _find(self, sample_ids: Any) -> Int64[np.ndarray, " samples"]:
        keys = StoredSamples.of(as_ids(sample_ids)).cut(self.store.samples.num_bytes).keys
        return self._index.find(keys)

    def _held_view(self, view: int) -> HeldView:
        if view not in self.store.manifest.view_numbers:
            found = f"has no labels for view {view!r}"
            raise StoreError(self.location, found, expected=f"one of its views, {_ranges(self.views)}")
        held = self._held
        if held is None or held[0] != view:
            held = view, HeldView(self.store, self.store.manifest.view_numbers.index(view))
            self._held = held
        return held[1]


def open_labels(place: str | Path) -> Labels:
    """Returns the labels at a path or a URL (`https://`, `s3://`, `gs://`, `az://`): of a folder
    (`.../name.zarr`), or of a packed store (`.../name.zarr.zip`).

    Raises:
        StoreError: There is no store, or it is damaged.
    """
    return Labels(place)


def as_labels(given: object) -> Labels:
    """Returns labels, opened where a path or a URL is given.

    Raises:
        StoreError: There is no store, or it is damaged.
        ConfigError: It is neither.
    """
    if isinstance(given, Labels):
        return given
    if not isinstance(given, str | Path):
        expected = "the labels of open_labels or label_dataset, a path, or a URL"
        raise ConfigError("labels", f"a {type(given).__name__}", expected=expected)
    return open_labels(given)


def _need_a_store(path: Path) -> None:
    """Raises StoreError where stores lie in the folder, which is none itself."""
    stores = [] if (path / "zarr.json").exists() else sorted(each.name for each in path.glob("*.zarr"))
    if stores:
        raise StoreError(path, "is a folder of stores", expected=f"one of them: {listed(stores)}")


def _ranges(numbers: list[int]) -> str:
    """Returns numbers in short: 0 to 3, 7."""
    parts, start = [], 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            first, last = numbers[start], numbers[place - 1]
            parts.append(str(first) if first == last else f"{first} to {last}")
            start = place
    return listed(parts, 80)
