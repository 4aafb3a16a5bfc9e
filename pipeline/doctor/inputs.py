"""The kinds of samples that a new project may have, and the settings that each begins with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.config import Setting, edit_entry
from pipeline.core.errors import ConfigError, suggest
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName
from pipeline.doctor.choice import value_at
from pipeline.preparation.sources import SOURCES

#: Stores that hold any number of classes; others of an example may not fit other data.
_FIT_ANY = ("dense_float16", "dense_uint8", "none")
_WHY = "fits any number of classes"
#: By the ending of a file's name the source of images that it is.
_BY_ENDING = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".jsonl", ".ndjson"), "manifest"),
    ".parquet": "parquet",
    ".npz": "arrays",
    ".tar": "webdataset",
}
#: The place of the settings of images, whose comments explain every key, in a project of others.
EXPLAINED = "docs/params/images.yaml"


@dataclass(frozen=True)
class Input:
    """A kind of samples.

    Attributes:
        folder: The source of a folder of class folders; `table` that of a table.
        params: The file of settings that a project of it begins with.
        keys: Of `prepare`, with values that hold for any data.
    """

    kind: InputKindName
    folder: str | None
    table: str
    params: str
    keys: Mapping[str, Any]


INPUTS: dict[str, Input] = {
    "image": Input("image", "folder", "manifest", "params.yaml", {}),
    "text": Input("tokens", "text_folder", "text_table", "docs/params/text.yaml", {}),
    "sound": Input(
        "waveform",
        "sound_folder",
        "sound_manifest",
        "docs/params/sound.yaml",
        {"sound": {"rate_hz": None, "seconds": None, "crop": "centre"}, "group_pattern": None},
    ),
    "table": Input("row", None, "rows", "docs/params/table.yaml", {}),
}


def input_named(name: str) -> Input:
    """Returns a kind of samples; raises ConfigError where there is none of this name."""
    if name not in INPUTS:
        raise ConfigError("INPUT (--input)", repr(name), expected=suggest(name, list(INPUTS)))
    return INPUTS[name]


def source_for(name: str, source: str | None, path: str | None) -> str:
    """Returns the source that a new project reads: the one asked for, or else the input's own for a
    folder or a table, whatever is at the path.

    Raises ConfigError where the source is one of other samples.
    """
    own = input_named(name)
    if source is None and own.kind == "image":
        return _source_of_images(path) or str(own.folder)
    if source is None:
        is_table = path is not None and Path(path).suffix and not Path(path).is_dir()
        return own.table if is_table or own.folder is None else own.folder
    if source in SOURCES and SOURCES[source].input_kind != own.kind:
        fitting = [kind for kind, one in SOURCES.items() if one.input_kind == own.kind]
        found = f"{source}, whose samples are no {INPUT_KINDS[own.kind].things}"
        raise ConfigError("SOURCE (--source)", found, expected=", ".join(fitting), fix="or name another INPUT")
    return source


def _source_of_images(path: str | None) -> str | None:
    """Returns the source that is at a path by its name, or by its folders; None: of class
    folders.
    """
    if path is None:
        return None
    if all((Path(path).expanduser() / name).is_dir() for name in ("images", "masks")):
        return "masks"
    return None if Path(path).is_dir() else _BY_ENDING.get(Path(path.lower().removesuffix(".gz")).suffix)


def begin_with(own: Input, params: Path) -> None:
    """Makes the settings of an input those of a new project; those of images stay beside them.

    Args:
        params: Of the new project; the file of the input lies beside it.
    """
    if own.kind == "image":
        return
    top = params.parent
    (top / EXPLAINED).write_bytes(params.read_bytes())
    lines = (top / own.params).read_text().splitlines(keepends=True)
    rest = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    about = (
        f"# The settings to begin with, as in {own.params}. {EXPLAINED} explains every key; docs/inputs.md, those of\n"
    )
    params.write_text(f"{about}# this kind of samples.\n{''.join(lines[rest:])}")


def general(own: Input, params: Mapping[str, Any]) -> Iterator[Setting]:
    """Yields changes of an example's settings that were made for its own data."""
    if own.kind == "image":
        return
    for key, value in own.keys.items():
        if key in params["prepare"]:
            yield Setting(f"prepare.{key}", value, "null: as it is found")
    unfit = [name for name, row in value_at(params, "encodings").items() if row["kind"] not in _FIT_ANY]
    students = [name for name, row in value_at(params, "students").items() if row["labels"] in unfit]
    for place, names in (("students", students), ("encodings", unfit)):
        for name in names:
            yield Setting(f"{place}.{name}", None, _WHY, removed=True)
    if any(name in students for name in params["exports"]):
        yield Setting("exports", [name for name in params["exports"] if name not in students], _WHY)


def fit_shifts(params: Path, length: int) -> None:
    """Makes views of sounds move and hide an eighth of a sound at most."""
    most = max(1, length // 8)
    for section in ("train_teacher", "dump_labels"):
        edit_entry(
            params,
            f"{section}.views.operations",
            lambda rows: [{**row, "most_samples": most} if "most_samples" in row else row for row in rows],
        )
