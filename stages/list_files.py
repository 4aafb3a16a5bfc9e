"""The stage `list_files`: a fingerprint of the files that `prepare` reads, for DVC.

It runs at every `dvc repro`, and `prepare` runs again when the fingerprint has changed. DVC alone
would not do: it does not see what a link to a folder leads to, knows nothing of the images that a
table names, ends at a link to nowhere, and reads the content of every file.

Names of rows become words of commands in a shell, so they are checked here, before any other stage.
"""

from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_rows, load_section, read_exports
from pipeline.core.files import write_json
from pipeline.core.progress import say
from pipeline.preparation.elsewhere import LISTED, is_elsewhere
from pipeline.preparation.sources import build_source
from pipeline.preparation.sources.inputs import look_at


def main(params: Path = PARAMS, out: Path = LISTED) -> None:
    load_rows("encodings", params)
    read_exports(params)
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


if __name__ == "__main__":
    run_stage(main)
