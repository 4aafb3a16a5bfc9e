"""A difference between a prepared data set and what `prepare` would make now."""

import json
from dataclasses import asdict
from typing import Any

from pipeline.core.scratch import decided_by
from pipeline.data.manifest import DatasetManifest
from pipeline.doctor.folders import Folders
from pipeline.preparation.elsewhere import is_elsewhere
from pipeline.preparation.settings import Prepare
from pipeline.preparation.sources.base import Source


def change(data: DatasetManifest, settings: Prepare, source: Source | None, folders: Folders) -> str | None:
    """Returns the first difference in settings or in the source's files; None without one.

    Where `prepare` left no record of its work (the data came from elsewhere), its manifest has to
    do, which records only some settings and no files.
    """
    recorded = decided_by(folders.data, folders.work)
    if recorded is None:
        return _misfit(data, settings)
    wanted: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    for key, value in wanted.items():
        if (before := recorded["settings"].get(key, value)) != value:
            return f"{key} was {before}, and is {value} now"
    if source is not None and not is_elsewhere(settings.source) and recorded["files"] != source.files_fingerprint():
        return "source has changed since: files were added, replaced or removed"
    return None


def _misfit(data: DatasetManifest, settings: Prepare) -> str | None:
    shape = data.image_shape
    recorded = {
        "source": (data.source, str(settings.source.get("kind"))),
        "storage": (data.storage, settings.storage),
        "image_px": (shape[1:], list(settings.image_px) if settings.image_px else shape[1:]),
        "channels": (shape[0], settings.channels or shape[0]),
    }
    differing = [
        f"{key} was {found}, and is {wanted} now" for key, (found, wanted) in recorded.items() if found != wanted
    ]
    return differing[0] if differing else None
