"""JSON files that carry a fingerprint of themselves: who reads one gets what was written, or an
error.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError, repaired
from pipeline.core.files import fingerprint, read_json, write_bytes

SEAL = "fingerprint_of_this"


def write_sealed(path: Path, content: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Writes a JSON object, with the fingerprint of all its other keys."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # keys as they will be read
    write_bytes(path, (json.dumps(plain | {SEAL: fingerprint(plain)}, indent=indent) + "\n").encode())


def read_sealed(path: Path, *, made_by: str) -> dict[str, Any]:
    """Returns the object that `write_sealed` wrote; raises DataError where it has changed.

    `made_by` is the stage to run where the file is missing or damaged.
    """
    return unseal(read_json(path, made_by=made_by), path, made_by=made_by)


def unseal(content: object, path: Path, *, made_by: str) -> dict[str, Any]:
    """Returns what was read from a sealed file without its seal; raises as `read_sealed` does."""
    if not isinstance(content, dict) or SEAL not in content:
        found = "not a whole JSON object with a fingerprint of itself, which earlier versions did not write"
    else:
        plain = {key: value for key, value in content.items() if key != SEAL}
        if content[SEAL] == fingerprint(plain):
            return plain
        found = "damaged: it is not as it was written (its fingerprint does not match)"
    raise DataError(path, found, fix=repaired(made_by))
