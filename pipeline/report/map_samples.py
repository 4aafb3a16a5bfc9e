"""Images with their maps of classes, as the page shows them."""

from collections.abc import Mapping
from typing import Any

_SHOWN_PX = 96  # about the side of a tile on the page
_MOST_CLASSES = 40  # in the legend


def map_samples(samples: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns what the page's section needs of samples.json; None where samples have no maps."""
    if samples is None or "colours" not in samples:
        return None
    height, width = samples["tile_px"]
    scale = max(1, round(_SHOWN_PX / max(height, width)))
    named = [*zip(samples["class_names"], samples["colours"], strict=True)]
    return {
        **samples,
        "height": scale * height,
        "width": scale * width,
        "legend": [*named[:_MOST_CLASSES], ("nothing is known", samples["unknown"])],
        "more_classes": max(0, len(named) - _MOST_CLASSES),
    }
