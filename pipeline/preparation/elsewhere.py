"""Images that are not on this machine, where they were listed before."""

from pathlib import Path
from typing import Any

from pipeline.core.files import read_json
from pipeline.preparation.sources.patterns import is_there

LISTED = Path("reports/list_files.json")


def is_elsewhere(row: dict[str, Any], listed: Path = LISTED) -> bool:
    """Returns whether the images are gone, but were listed before: prepared data may be here
    without them.
    """
    place = row.get("path")
    if not isinstance(place, str) or is_there(place) or not listed.exists():
        return False
    return bool(read_json(listed, made_by="list_files").get("source") == row)
