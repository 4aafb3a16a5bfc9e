"""find_features: data/dump_labels + students -> data/find_features/<student>.json, for DVC.

A row of `students` need not have the key `features`, so dvc.yaml can't name the store of embeddings
that a student learns from, as it names the store of its labels. Each file here has the fingerprint
of that store's manifest, and `train_student` depends on it: a student is trained again when its
embeddings change, and not when anything else of the dump does.
"""

import shutil
from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, load_row, load_rows
from pipeline.core.files import file_fingerprint, write_json
from pipeline.core.progress import say


def main(
    params: Path = PARAMS, labels: Path = Path("data/dump_labels"), out: Path = Path("data/find_features")
) -> None:
    named = {name: load_row(dict, "students", name, params).get("features") for name in load_rows("students", params)}
    shutil.rmtree(out, ignore_errors=True)  # files of students that are no more
    for name, store in named.items():
        write_json(out / f"{name}.json", {"features": store, "fingerprint": _fingerprint(labels, store)})
    learning = [name for name, store in named.items() if store is not None]
    say(f"find_features: {len(learning)} of {len(named)} students learn from embeddings")


def _fingerprint(labels: Path, store: str | None) -> str | None:
    """Returns the fingerprint of a store's manifest, which has digests of all that it holds.

    None where there is no such store: its student's training refuses it, and no other's.
    """
    manifest = labels / f"{store}.zarr" / "zarr.json"
    return file_fingerprint(manifest) if store is not None and manifest.exists() else None


if __name__ == "__main__":
    run_stage(main)
