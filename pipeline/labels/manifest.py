"""The manifest of a soft-label store (docs/store-format.md), and its blocks.

A store may come from anywhere: its manifest is read by types and bounds, and all sizes in the store
follow from it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt

from pipeline.core.config import STRICT, validate
from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.files import fingerprint
from pipeline.core.remedies import Remedies
from pipeline.labels.encodings import LabelSpace
from pipeline.labels.entries import (
    Count,
    FidelityFigures,
    Samples,
    Side,
    StatedTeacher,
    Temperature,
    VectorFidelityFigures,
)
from pipeline.signals import StoredKind
from pipeline.views.spec import ViewSpec

FORMAT = "potstill-soft-labels"
VERSION = 2
VERSIONS = (1, VERSION)  # that are read
MOST_BLOCKS = 1 << 22  # of a store; with the usual 4,096 samples in each, 17 billion labels
MOST_DIMENSIONS = 1 << 24  # of an embedding
_STAGES = Remedies.of_stage("dump_labels")
#: What to do about stores that stages make.
OF_STAGES = replace(_STAGES, damaged=f"{_STAGES.damaged}; or have the teacher label it again: `potstill labels repair`")


@dataclass(frozen=True)
class Block:
    """A block: one view of a range of a store's rows; `view_index` is the view's place in the
    store.
    """

    view_index: int
    view: int
    rows: range

    @property
    def name(self) -> str:
        return f"view {self.view}, samples {self.rows.start} to {self.rows.stop - 1}"


@dataclass(frozen=True)
class AnchorBlock:
    """The anchors of a range of a store's rows, which the labels of these rows stand on."""

    rows: range

    @property
    def name(self) -> str:
        return f"anchors, samples {self.rows.start} to {self.rows.stop - 1}"


Part: TypeAlias = Block | AnchorBlock


@dataclass(frozen=True)
class Manifest:
    """The facts that a store states about itself; `complete` is set last.

    A store of embeddings has `num_dimensions` and no classes, one of a grid the `positions` of it.
    Encoding, views and teacher are kept as JSON, so that its fingerprint covers what stands in the
    file."""

    encoding: dict[str, Any]
    class_names: Annotated[list[str], Field(max_length=1 << 24)]
    view_numbers: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 32)]], Field(min_length=1, max_length=1 << 20)]
    num_samples: Count
    block_samples: Count
    temperature: Temperature
    temperatures: Annotated[list[Temperature], Field(min_length=1, max_length=1000)]
    views: dict[str, Any]
    dataset_fingerprint: str
    teacher: dict[str, Any] | None
    signal: StoredKind = "categorical"
    num_dimensions: Annotated[int, Field(ge=1, le=MOST_DIMENSIONS)] | None = None
    positions: tuple[Side, Side] | None = None
    input: dict[str, Any] | None = None
    fidelity: dict[str, Any] | None = None
    label_bytes: NonNegativeFloat | None = None
    table_bytes: NonNegativeInt | None = None
    anchor_bytes: NonNegativeInt | None = None
    arrays_digest: str | None = None
    complete: bool = False
    fingerprint: str = ""
    format: str = FORMAT
    version: int = VERSION

    __pydantic_config__: ClassVar[ConfigDict] = STRICT  # as `parse_manifest` reads it

    @property
    def samples(self) -> Samples:
        """The kind of its samples."""
        return Samples(**(self.input or {"kind": "image"}))

    @property
    def num_classes(self) -> int:
        """The number of classes; of embeddings, that of their dimensions."""
        return self.num_dimensions or len(self.class_names)

    @property
    def is_of_embeddings(self) -> bool:
        """Whether it holds the teacher's embeddings, not what it says of classes."""
        return self.signal == "vector"

    @property
    def num_views(self) -> int:
        return len(self.view_numbers)

    @property
    def num_labels(self) -> int:
        return self.num_views * self.num_samples

    @property
    def teacher_precision(self) -> str:
        """The number format that the teacher computed in, `float32` or `bfloat16`."""
        return str((self.teacher or {}).get("precision", "float32"))

    @property
    def mixes(self) -> bool:
        """Whether its views are mixed of two samples."""
        return ViewSpec.from_dict(self.views, "views").mixes

    @property
    def space(self) -> LabelSpace:
        return LabelSpace(self.num_classes, self.temperature, tuple(self.temperatures), self.signal, self.positions)

    @property
    def blocks_per_view(self) -> int:
        return -(-self.num_samples // self.block_samples)

    @property
    def num_blocks(self) -> int:
        return self.num_views * self.blocks_per_view

    def ranges(self) -> list[range]:
        """Returns the rows of every block of a view."""
        size, count = self.block_samples, self.num_samples
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def blocks(self) -> list[Block]:
        """Returns every block, view by view."""
        ranges = self.ranges()
        return [Block(index, view, rows) for index, view in enumerate(self.view_numbers) for rows in ranges]

    def signed(self) -> dict[str, Any]:
        """Returns the manifest as plain JSON, with its own fingerprint."""
        content = asdict(self) | {"fingerprint": ""}
        for name in (
            "num_dimensions",
            "positions",
            "input",
        ):  # as stores of images and classes have always been written
            if content[name] is None:
                del content[name]
        return content | {"fingerprint": manifest_fingerprint(content)}

    def may_share_labels(self, other: "Manifest") -> bool:
        """Returns whether a label of one may stand in the other for the same view of the same
        sample.

        They are the same except for the last bits of the teacher's logits, which other batches may
        round differently. A mixed view shows another sample of its block, too, so that with other
        blocks it is another view."""
        same_blocks = not self.mixes or _blocks_of(self) == _blocks_of(other)
        return same_blocks and _decides(self) == _decides(other)


def parse_manifest(
    content: Mapping[str, Any], where: object, fix: str = OF_STAGES.damaged, unfinished: str = OF_STAGES.unfinished
) -> Manifest:
    """Returns the manifest of a finished store; raises StoreError where it is another format,
    unfinished, not as written or without sense.
    """
    if content.get("format") != FORMAT:
        raise StoreError(where, "not a soft-label store", expected=f"format {FORMAT!r} in its attributes")
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StoreError(
            where,
            f"format version {version}, newer than this program",
            expected=f"version {VERSION}",
            fix="update Potstill",
        )
    if not isinstance(version, int) or version not in VERSIONS:
        raise StoreError(where, f"format version {version!r}", expected=f"one of {VERSIONS}", fix=fix)
    try:
        manifest = _typed(content)
    except ConfigError as error:
        raise StoreError(where, f"its manifest can't be read ({error})", fix=fix) from None
    if not manifest.complete:
        raise StoreError(where, "is unfinished", expected="complete: true", fix=unfinished)
    if manifest.fingerprint != manifest_fingerprint(content):
        raise StoreError(where, "its manifest is not as it was written (its fingerprint does not match)", fix=fix)
    if nonsense := _nonsense(manifest):
        raise StoreError(where, f"its manifest makes no sense ({nonsense})", fix=fix)
    return manifest


def _typed(content: Mapping[str, Any]) -> Manifest:
    """Returns the manifest; raises ConfigError for the first entry of a wrong type or out of its
    bounds.
    """
    try:
        json.dumps(content, allow_nan=False)
    except ValueError as error:
        raise ConfigError("manifest", str(error), expected="plain JSON") from None
    manifest: Manifest = validate(Manifest, content, "manifest")
    figures = VectorFidelityFigures if manifest.is_of_embeddings else FidelityFigures
    validate(figures | None, manifest.fidelity, "manifest.fidelity")
    validate(StatedTeacher | None, manifest.teacher, "manifest.teacher")
    validate(Samples | None, manifest.input, "manifest.input")
    return manifest


def _nonsense(manifest: Manifest) -> str | None:
    """Returns why entries of a manifest do not fit each other, or None."""
    if manifest.is_of_embeddings != (manifest.num_dimensions is not None):
        return f"signal {manifest.signal} and num_dimensions {manifest.num_dimensions}"
    if (manifest.signal == "grid") != (manifest.positions is not None):
        return f"signal {manifest.signal} and positions {manifest.positions}"
    if manifest.is_of_embeddings == bool(manifest.class_names):
        return f"signal {manifest.signal} and {len(manifest.class_names):,} class names"
    if manifest.is_of_embeddings and (manifest.temperature != 1 or manifest.temperatures != [1]):
        return f"embeddings at the temperature {manifest.temperature:g}, and they have none but 1"
    names = [f"{temperature:g}" for temperature in manifest.temperatures]
    if len(set(names)) < len(names):
        return f"a temperature twice among {', '.join(names)}"
    if len(set(manifest.view_numbers)) < len(manifest.view_numbers):
        return "a view number twice"
    if manifest.num_blocks > MOST_BLOCKS:
        return f"{manifest.num_blocks:,} blocks, of at most {MOST_BLOCKS:,}"
    return None


def manifest_fingerprint(content: Mapping[str, Any]) -> str:
    """Returns 32 hex digits over everything in a manifest except this very fingerprint."""
    return fingerprint({key: value for key, value in content.items() if key != "fingerprint"})


def _decides(manifest: Manifest) -> list[Any]:
    m = manifest
    return [
        m.signal,
        m.num_dimensions,
        m.positions,
        m.input,
        m.encoding,
        m.class_names,
        m.temperature,
        m.temperatures,
        m.views,
        m.teacher,
    ]


def _blocks_of(manifest: Manifest) -> list[Any]:
    return [manifest.dataset_fingerprint, manifest.num_samples, manifest.block_samples]
