"""The card of a store: a page in Markdown for those who get the labels without the data.

It has what the store itself states, and what its owner adds. Nothing is guessed: what neither of
them says stands there as not stated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError, listed
from pipeline.core.text import escaped, shown
from pipeline.data.input_kinds import IMAGE, INPUT_KINDS, TOKENS, InputKind
from pipeline.data.manifest import DatasetManifest
from pipeline.labelling.closeness import closeness_rows, closeness_title
from pipeline.labelling.inspect import (
    anchors_line,
    describe_store,
    encoding_line,
    numbers_line,
    positions_line,
    teacher_line,
    temperatures_line,
)
from pipeline.labels.notes import notes_of
from pipeline.labels.packed import SUFFIX
from pipeline.labels.reader import StoreReader

UNKNOWN = "not stated"
_MOST_CLASSES = 2000  # characters of their names
_MOST_SIGNS = 10_000  # of a text that an owner adds


@dataclass(frozen=True)
class OwnersWords:
    """The facts that a store can't know, as its owner states them; None: not stated.

    Attributes:
        data: The name of the data set, and its version.
        images: How to get the images.
    """

    licence: str | None = None
    author: str | None = None
    data: str | None = None
    images: str | None = None

    def __post_init__(self) -> None:
        for name, text in vars(self).items():
            if text is not None and not 0 < len(text.strip()) <= _MOST_SIGNS:
                found = f"{len(text.strip()):,} characters"
                raise DataError(f"--{name}", found, expected=f"1 to {_MOST_SIGNS:,}", fix="or leave it out")


def store_card(store: StoreReader, words: OwnersWords, prepared: Path | None) -> str:
    """Returns the card of a store.

    Args:
        prepared: The prepared data that the store was made of, for the shape of its images; None:
            it is not at hand.

    Raises:
        DataError: That is other data.
    """
    facts, data = describe_store(store), None if prepared is None else _data_of(store, prepared)
    kind = INPUT_KINDS[store.manifest.samples.kind]
    held = "soft labels" if facts["fields"] else "views without labels"
    each = f"{facts['num_views']} views of each of {facts['num_samples']:,} {kind.things}"
    count = f"{store.manifest.num_labels:,} {held}: {each}"
    sections = {
        f"# {_name(store.location)}": f"{count}, {_in_what(facts)}. A Potstill label store, format "
        f"{facts['version']}; it holds no {kind.things}.",
        "": _table({"licence": words.licence, "author": words.author}),
        "## Teacher": "\n\n".join(map(_inline, [teacher_line(facts["teacher"]), *notes_of(facts["teacher"])])),
        "## Data": _table(_data_lines(facts, words, data, kind))
        + f"\n\nHow to get the {kind.things}: {_said(words.images)}",
        "## Views": _views_text(facts, kind),
        "## Labels": _table(_label_lines(store, facts, kind)) + _fidelity_text(facts),
        f"## Which label belongs to which {kind.thing}": _joining(store, data, kind),
        "## Use": _USE.format(things=kind.things),
    }
    parts = [f"{title}\n\n{text}" if title else text for title, text in sections.items()]
    return shown("\n\n".join(parts)) + "\n"


def _in_what(facts: Mapping[str, Any]) -> str:
    count = facts["num_classes"]
    independent = "independent " if facts["signal"] == "binary" else ""
    if facts["signal"] == "vector":
        return f"embeddings of {count:,} dimensions"
    return f"in {count:,} {independent}classes" + (" at each pixel" if facts["positions"] else "")


def _data_of(store: StoreReader, prepared: Path) -> DatasetManifest:
    """Returns the manifest of the data that a store was made of."""
    data = DatasetManifest.read(prepared / "manifest.json")
    if data.fingerprints["train"] != store.manifest.dataset_fingerprint:
        found = f"its training split is {data.fingerprints['train']}"
        raise DataError(prepared, found, expected=f"{store.manifest.dataset_fingerprint} ({store.location})")
    return data


def _data_lines(
    facts: Mapping[str, Any], words: OwnersWords, data: DatasetManifest | None, kind: InputKind
) -> dict[str, str | None]:
    axes = " (channels, height, width)" if kind is IMAGE else ""
    return {
        "data set": words.data,
        "classes": listed([_inline(name) for name in facts["class_names"]], _MOST_CLASSES),
        kind.things: f"{facts['num_samples']:,} of shape {_shape(data)}{axes}",
        "training split": f"fingerprint `{_inline(facts['dataset_fingerprint'])}`",
    }


def _shape(data: DatasetManifest | None) -> str:
    return UNKNOWN if data is None else ",".join(map(str, data.image_shape))


def _views_text(facts: Mapping[str, Any], kind: InputKind) -> str:
    views = facts["views"]
    rows = [
        f"{number}. `{row['kind']}`" + "".join(f", {key} {value}" for key, value in row.items() if key != "kind")
        for number, row in enumerate(views["operations"], 1)
    ]
    plain = f" View 0 is the {kind.thing} as it is." if views["plain_first"] else ""
    made = "in this order" if rows else f"none: each view is the {kind.thing} as it is"
    head = f"Views {numbers_line(facts['view_numbers'])}, made by the seed {views['seed']}.{plain} Operations, {made}"
    return f"{head}:\n\n" + "\n".join(rows) if rows else f"{head}."


def _label_lines(store: StoreReader, facts: Mapping[str, Any], kind: InputKind) -> dict[str, str | None]:
    lines: dict[str, str | None] = {"encoding": encoding_line(facts["encoding"])}
    if facts["positions"]:
        lines["positions"] = positions_line(facts)
    if facts["fields"]:
        lines["temperatures"] = temperatures_line(facts)
    if facts["anchors"]:
        lines["anchors"] = anchors_line(facts)
    size = store.manifest.label_bytes
    each = UNKNOWN if size is None else f"{size:.2f} bytes for each view of {_a(kind)}, with everything in it"
    return lines | {"size": each, "fingerprint": f"`{facts['fingerprint']}`"}


def _fidelity_text(facts: Mapping[str, Any]) -> str:
    if not (fidelity := facts["fidelity"]):
        return ""
    (by, lines), (what, same) = closeness_rows(fidelity), closeness_title(fidelity, facts["signal"])
    rows = [f"| {t} | {kl['mean']:.1e} | {kl['p999']:.1e} | {kl['max']:.1e} |" for t, kl in lines.items()]
    return (
        f"\n\nHow far the labels are from the teacher: {what} measured on {fidelity['num_labels']:,} "
        f"labels when they were written; {same}:\n\n"
        f"| {by} | mean | 99.9% are below | largest |\n|---|---|---|---|\n" + "\n".join(rows)
    )


def _table(lines: Mapping[str, str | None]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_in_cell(text)} |" for name, text in lines.items())])


def _in_cell(text: str | None) -> str:
    return " ".join(_said(text).split()).replace("|", "\\|")


def _said(text: str | None) -> str:
    return UNKNOWN if text is None else text.strip()


def _inline(text: str) -> str:
    """Returns a name from a store in one line, without the signs of HTML."""
    return escaped(text).replace("<", "&lt;")


def _name(location: str) -> str:
    """Returns the name of a store, packed or not."""
    return location.rstrip("/").rpartition("/")[2].removesuffix(SUFFIX).removesuffix(".zarr")


def _a(kind: InputKind) -> str:
    return f"{'an' if kind is IMAGE else 'a'} {kind.thing}"


def _joining(store: StoreReader, data: DatasetManifest | None, kind: InputKind) -> str:
    """Returns the text that says what ids are made of."""
    if kind is IMAGE:
        return _JOINING.format(shape=_shape(data))
    key, made = "tokens", "words: of the same 8 bytes of each, without a key, one behind the other"
    if kind is not TOKENS:
        key = f"{kind.name}:{store.manifest.samples.detail}:{_shape(data)}"
        made = f"numbers, as little-endian {kind.dtype}"
    return _OTHERS_JOINING.format(things=kind.things, thing=kind.thing, made=made, key=escaped(key))


_OTHERS_JOINING = """\
Labels are joined to {things} by content, never by position or file name. The id of a {thing} (`sample_id`) is made of its
{made}: the first 8 bytes, little-endian, of BLAKE2b with digest size 8, keyed with `{key}`;
an id of 0 becomes 1. The store keeps a key made of each id (`sample_key`), and a few numbers of some views, by which a reader sees
that it makes the same views. All of it, byte for byte: docs/store-format.md of Potstill."""

_JOINING = """\
Labels are joined to images by content, never by position or file name. The id of an image (`sample_id`) is made of its prepared
pixels, as uint8 in the order channels, height, width: the first 8 bytes, little-endian, of BLAKE2b with digest size 8, keyed with
the shape as ASCII (`channels,height,width`; here: {shape}); an id of 0 becomes 1. So the images must be decoded and resized to the
same pixels as the teacher's were. The store keeps a key made of each id (`sample_key`; in format 1 the id itself), and a few pixels
of some views, by which a reader sees that it makes the same views. All of it, byte for byte: docs/store-format.md of Potstill."""

_USE = """\
```
potstill labels inspect FILE                       # FILE: this file or its URL
potstill train-student --name small --labels FILE  # a student of params.yaml, on the same {things}
potstill labels unpack FILE --out soft.zarr        # checked; a folder for any Zarr v3 library, as `unzip` makes it
```"""
