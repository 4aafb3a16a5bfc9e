"""Images with their maps of classes: the known one, and that of each network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Integer

from pipeline.data.splits import SplitInMemory
from pipeline.explanation.class_colours import class_colours, paint
from pipeline.explanation.tiles import TileSheet
from pipeline.results.explanation import MapRow

EACH = 8  # images of a kind, at most
MOST_NETWORKS = 6  # with a map of each image

Maps = Mapping[str, Integer[np.ndarray, "height width"]]


def choose_test(
    ious: Mapping[str, torch.Tensor], disagreement: torch.Tensor | None, num_disagreed: int
) -> dict[int, list[str]]:
    """Returns rows of the test split, and the reasons for which each is shown.

    These are where students do best, as usual and worst by mean IoU, and where they are furthest
    from the teacher.

    Args:
        ious: Of each student, by image.
        disagreement: The mean KL(teacher || student) of each image; None without a teacher.
        num_disagreed: At most so many of these.
    """
    order = torch.stack([*ious.values()]).double().mean(dim=0).argsort(stable=True).tolist()
    count = min(EACH // 2, len(order))
    middle = (len(order) - count) // 2
    reasons = {
        "students disagree": []
        if disagreement is None
        else disagreement.argsort(descending=True, stable=True).tolist(),
        "best": order[::-1][:count],
        "median": order[middle : middle + count],
        "worst": order[:count],
    }
    reasons["students disagree"] = reasons["students disagree"][: min(EACH, num_disagreed)]
    chosen: dict[int, list[str]] = {}
    for reason, places in reasons.items():
        for place in places:
            chosen.setdefault(place, []).append(reason)
    return chosen


@dataclass
class MapSheet:
    """A sheet of tiles with images and maps, and the rows about them."""

    num_classes: int
    tiles: TileSheet
    rows: list[MapRow] = field(default_factory=list)

    def add(self, split: str, index: int, sample: SplitInMemory, maps: Maps, **about: object) -> None:
        """Puts an image, its own map and those of networks on the sheet.

        Args:
            sample: The split's sample alone.
            about: The other fields of its row.
        """
        colours, image = class_colours(self.num_classes), sample.inputs[0].numpy()
        row = {
            "id": f"{int(sample.sample_ids[0]):016x}",
            "split": split,
            "index": index,
            "image": self.tiles.add(np.broadcast_to(image, (3, *image.shape[1:]))),
            "mask": self.tiles.add(paint(sample.hard_labels[0].numpy(), colours)),
            "maps": {name: self.tiles.add(paint(each, colours)) for name, each in maps.items()},
        }
        self.rows.append(MapRow(**row | about))  # type: ignore[arg-type]


def shown_networks(names: Sequence[str]) -> list[str]:
    """Returns the networks whose maps there is room for: the first ones."""
    return list(names)[:MOST_NETWORKS]
