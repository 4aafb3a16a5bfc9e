"""The stage `list_files`: a fingerprint of the files that `prepare` reads, for DVC.

It runs at every `dvc repro`, and `prepare` runs again when the fingerprint has changed. DVC alone
would not do: it does not see what a link to a folder leads to, knows nothing of the images that a
table names, ends at a link to nowhere, and reads the content of every file.
"""

from pathlib import Path
from typing import Any

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_section
from pipeline.core.files import read_json, write_json
from pipeline.core.progress import say
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.inputs import look_at
from pipeline.preparation.sources.patterns import is_there


def main(params: Path = PARAMS, out: Path = Path("reports/list_files.json")) -> None:
    row = load_section(dict, "prepare.source", params)
    source = build_source(row, f"{params}: prepare.source")
    if is_elsewhere(row, out):
        say(f"list_files: {row['path']} is not on this machine; it is taken to be as it was when {out} was written")
        return
    inputs = look_at(source.files())
    facts = {"files": inputs.num_files, "bytes": inputs.num_bytes, "fingerprint": inputs.fingerprint}
    write_json(out, {"source": row, **facts})
    if inputs.num_files:
        say(f"list_files: {inputs.num_files:,} files, {inputs.num_bytes:,} bytes")


def is_elsewhere(row: dict[str, Any], out: Path) -> bool:
    """Returns whether the images are gone, but were listed before: prepared data may be here
    without them.
    """
    place = row.get("path")
    if not isinstance(place, str) or is_there(place) or not out.exists():
        return False
    return bool(read_json(out, made_by="list_files").get("source") == row)


if __name__ == "__main__":
    run_stage(main)
