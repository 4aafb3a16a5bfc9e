"""Maps of classes in the geometry of views: what was drawn for an image moves its map, too."""

import torch
from jaxtyping import Int64

from pipeline.core.errors import ConfigError
from pipeline.data.signal_kinds import SignalKind
from pipeline.data.splits import HardLabels
from pipeline.views.operations.base import ImageOperation, Maps
from pipeline.views.operations.mixing import ImageMixing
from pipeline.views.operations.mixup import Mixup
from pipeline.views.spec import ViewSpec


def are_maps(hard_labels: HardLabels) -> bool:
    """Returns whether hard labels are maps of classes, which views move."""
    return hard_labels.ndim == 3


def move_maps(
    maps: Maps,
    draws: Int64[torch.Tensor, "batch columns"],
    spec: ViewSpec,
    partner_maps: Maps | None = None,
    partner_draws: Int64[torch.Tensor, "batch columns"] | None = None,
) -> Maps:
    """Returns the class of each pixel of the views that `render` makes of the same draws."""
    moved = _move(maps, draws, spec)
    if spec.mixing is None:
        return moved
    assert isinstance(spec.mixing, ImageMixing), "only images have maps"
    assert partner_maps is not None, "views are mixed of two images"
    assert partner_draws is not None, "each with its own draws"
    return spec.mixing.mix_maps(moved, _move(partner_maps, partner_draws, spec), spec.split_draws(draws)[-1])


def _move(maps: torch.Tensor, draws: torch.Tensor, spec: ViewSpec) -> torch.Tensor:
    for operation, own in zip(spec.operations, spec.split_draws(draws), strict=True):
        if isinstance(operation, ImageOperation):
            maps = operation.apply_to_maps(maps, own)
    return maps


def need_maps(spec: ViewSpec, signal: SignalKind, where: str) -> None:
    """Raises ConfigError where hard labels are learned from that are maps, and views are blended of
    two images.
    """
    if signal == "grid" and isinstance(spec.mixing, Mixup):
        found = "views with mixup, which leaves no pixel of one class for a map of classes to name"
        fix = "replace mixup, or let the student learn from soft labels alone (hard_weight: 0)"
        raise ConfigError(where, found, expected="cutmix, which cuts maps as it cuts images", fix=fix)
