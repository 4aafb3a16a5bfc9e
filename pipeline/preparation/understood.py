"""The facts about a source that a person checks at a glance: its classes, splits, files and pixels.

`prepare` prints them before it begins, and the doctor prints the same lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.data.input_kinds import IMAGE, InputKind
from pipeline.data.signal_kinds import SignalKind
from pipeline.preparation.form import Form
from pipeline.preparation.listing import Listing
from pipeline.preparation.pixel_shares import PixelShares
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.split_names import SPLITS

_MANY = 12  # classes; of more, some are shown
_MOST_SIGNS = 80  # of a class name


@dataclass(frozen=True)
class Understood:
    """The facts, as they were read.

    Attributes:
        class_names: In the order of their numbers.
        counts: Images by split and class; the class None stands for unlabelled ones.
        is_whole: Whether all images were counted.
        held_out: The share of the training images that each split will get which is not there.
        remarks: Lines about files.
        pixels: Lines about colour, sizes and bits.
        signal: The meaning of labels.
        split_sizes: Images by split; None: each counts for one class.
        masks: The classes of the pixels of some images or all; None where labels are no masks.
        kind: Of the samples.
    """

    class_names: Sequence[str]
    counts: Mapping[tuple[str, str | None], int]
    is_whole: bool = True
    held_out: Mapping[str, float] | None = None
    remarks: Sequence[str] = ()
    pixels: Sequence[str] = ()
    signal: SignalKind = "categorical"
    split_sizes: Mapping[str, int] | None = None
    masks: PixelShares | None = None
    kind: InputKind = IMAGE

    def lines(self, most_classes: int = _MANY) -> list[str]:
        """Returns the facts in a few lines, one screen at most; of more classes, some are shown."""
        return [
            *self._classes(most_classes),
            *self._sets(),
            *self._splits(),
            *(f"files: {remark}" for remark in self.remarks),
            *self.pixels,
        ]

    def _classes(self, most: int) -> list[str]:
        of_each = [
            self._of(name) if self.masks is None else self.masks.text(n) for n, name in enumerate(self.class_names)
        ]
        rows = [f"class {n} {_short(name)!r}: {of_each[n]}" for n, name in enumerate(self.class_names)]
        if len(rows) > most:
            first, last = 5 * most // 12, most // 4
            rows[first:-last] = [f"classes {first} to {len(rows) - last - 1} are not shown"]
        if any(label is None for _, label in self.counts):
            rows.append(f"no {'class' if self.masks is None else 'mask'} (unlabelled): {self._of(None)}")
        return rows

    def _of(self, label: str | None) -> str:
        counts = [f"{count:,} {split}" for split in SPLITS if (count := self.counts.get((split, label), 0))]
        return ", ".join(counts) or f"no {self.kind.things}"

    @property
    def _num_images(self) -> int:
        return sum((self.counts if self.split_sizes is None else self.split_sizes).values())

    def _sets(self) -> list[str]:
        """Returns a line about sets: a person knows whether classes exclude each other."""
        if self.signal == "categorical":
            return []
        if self.masks is not None:
            return [self.masks.line()]
        labelled = self._num_images - sum(count for (_, name), count in self.counts.items() if name is None)
        named = sum(count for (_, name), count in self.counts.items() if name is not None)
        article = "an" if self.kind is IMAGE else "a"
        mean = f"; {named / labelled:.1f} {article} {self.kind.thing}" if labelled else ""
        return [f"labels: multi-label, {article} {self.kind.thing} is of any number of classes{mean}"]

    def _splits(self) -> list[str]:
        lines = []
        if not self.is_whole:
            listed = self._num_images
            lines.append(f"classes: counted in the first {listed:,} {self.kind.things} alone, because more takes long")
        if self.held_out:
            shares = " and ".join(f"{split} ({share:.0%})" for split, share in self.held_out.items())
            lines.append(f"splits: none called {' or '.join(self.held_out)}: held out of train: {shares}")
        return lines


def understand(
    source: Source, class_names: Sequence[str], listing: Listing, settings: Prepare, form: Form
) -> Understood:
    """Returns the facts about a source whose images were listed."""
    splits = set(listing.split_sizes)
    fractions = {"test": settings.test_fraction, "val": settings.val_fraction}
    held_out = {split: fraction for split, fraction in fractions.items() if listing.is_whole and split not in splits}
    pixels = listing.look.lines(form)
    return Understood(
        class_names,
        listing.counts,
        listing.is_whole,
        held_out,
        source.notes.lines(),
        pixels,
        source.signal,
        listing.split_sizes,
        listing.masks,
        form.kind,
    )


def _short(name: str) -> str:
    return name if len(name) <= _MOST_SIGNS else f"{name[: _MOST_SIGNS - 3]}..."
