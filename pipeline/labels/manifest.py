"""The manifest of a soft-label store (docs/store-format.md), and its blocks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.core.errors import StoreError
from pipeline.core.files import fingerprint
from pipeline.labels.encodings import LabelSpace
from pipeline.views.spec import ViewSpec

FORMAT = "potstill-soft-labels"
VERSION = 1
FIX = "restore it (`dvc checkout --force`), run `python -m stages.repair_labels`, or `dvc repro dump_labels`"


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
class Manifest:
    """The facts that a store states about itself; `complete` is set last.

    Encoding, views and teacher are kept as JSON, so that its fingerprint covers what stands in the
    file."""

    encoding: dict[str, Any]
    class_names: list[str]
    view_numbers: list[int]
    num_samples: int
    block_samples: int
    temperature: float
    temperatures: list[float]
    views: dict[str, Any]
    dataset_fingerprint: str
    teacher: dict[str, Any] | None
    fidelity: dict[str, Any] | None = None
    label_bytes: float | None = None
    table_bytes: int | None = None
    arrays_digest: str | None = None
    complete: bool = False
    fingerprint: str = ""
    format: str = FORMAT
    version: int = VERSION

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

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
        return LabelSpace(self.num_classes, self.temperature, tuple(self.temperatures))

    @property
    def blocks_per_view(self) -> int:
        return -(-self.num_samples // self.block_samples)

    def blocks(self) -> list[Block]:
        """Returns every block, view by view."""
        starts = range(0, self.num_samples, self.block_samples)
        return [
            Block(index, view, range(start, min(start + self.block_samples, self.num_samples)))
            for index, view in enumerate(self.view_numbers)
            for start in starts
        ]

    def signed(self) -> dict[str, Any]:
        """Returns the manifest as plain JSON, with its own fingerprint."""
        content = asdict(self) | {"fingerprint": ""}
        return content | {"fingerprint": manifest_fingerprint(content)}

    def may_share_labels(self, other: "Manifest") -> bool:
        """Returns whether a label of one may stand in the other for the same view of the same
        sample.

        They are the same except for the last bits of the teacher's logits, which other batches may
        round differently. A mixed view shows another sample of its block, too, so that with other
        blocks it is another view."""
        same_blocks = not self.mixes or _blocks_of(self) == _blocks_of(other)
        return same_blocks and _decides(self) == _decides(other)


def parse_manifest(content: Mapping[str, Any], where: object) -> Manifest:
    """Returns the manifest of a finished store; raises StoreError where it is another format,
    unfinished or not as written.
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
    if version != VERSION:
        raise StoreError(where, f"format version {version!r}", expected=f"version {VERSION}", fix=FIX)
    try:
        manifest = Manifest(**content)
    except TypeError as error:
        raise StoreError(where, f"its manifest can't be read ({error})", fix=FIX) from None
    if not manifest.complete:
        raise StoreError(
            where, "is unfinished", expected="complete: true", fix="run `dvc repro dump_labels` to finish it"
        )
    if manifest.fingerprint != manifest_fingerprint(content):
        raise StoreError(where, "its manifest is not as it was written (its fingerprint does not match)", fix=FIX)
    return manifest


def manifest_fingerprint(content: Mapping[str, Any]) -> str:
    """Returns 32 hex digits over everything in a manifest except this very fingerprint."""
    return fingerprint({key: value for key, value in content.items() if key != "fingerprint"})


def _decides(manifest: Manifest) -> list[Any]:
    m = manifest
    return [m.encoding, m.class_names, m.temperature, m.temperatures, m.views, m.teacher, m.version]


def _blocks_of(manifest: Manifest) -> list[Any]:
    return [manifest.dataset_fingerprint, manifest.num_samples, manifest.block_samples]
