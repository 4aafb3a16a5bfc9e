"""The contents of reports/explain.json and data/explain/samples.json."""

from dataclasses import dataclass
from typing import Literal

#: The likeliest classes of a sample with their probabilities: [class, probability], the likeliest
#: first.
Ranked = list[list[float]]

Change = Literal["added", "changed", "dropped", "hidden"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a sample that is shown in words: a word of a text, a cell of a row.

    Attributes:
        name: Of a cell's column.
        change: What has become of it in a view; absent where nothing has.
    """

    text: str
    name: str | None = None
    change: Change | None = None

    @property
    def shown(self) -> str:
        """The part as a line of text has it."""
        return self.text if self.name is None else f"{self.name}: {self.text};"


#: What shows a sample: the number of its tile on the sheet of tiles, or its parts.
Look = int | list[Part]
#: What shows the map of a sample: its number on the sheet of maps, or the nats that each part adds.
MapLook = int | list[float]


@dataclass(frozen=True)
class ConfusedPair:
    """A hard label, the class that the teacher predicts instead, and the number of suspects with
    these two.
    """

    hard_label: str
    teacher_says: str
    count: int


@dataclass(frozen=True)
class Explanation:
    """The content of reports/explain.json.

    Attributes:
        num_suspects: Training samples whose hard label is probably wrong, among `num_checked`.
        why_none: The reason where no sample was checked.
        pairs: The commonest ones among the suspects.
        method: The way in which maps are made; None where there are none.
        map_agreement: By student, the mean rank correlation of its maps with the teacher's.
        map_agreement_by_chance: The same with the teacher's map of another sample.
        checked: The things that were checked; None: the hard labels of samples.
    """

    num_suspects: int
    num_checked: int
    why_none: str | None
    pairs: list[ConfusedPair]
    method: str | None
    num_maps: int
    map_agreement: dict[str, float]
    map_agreement_by_chance: dict[str, float]
    checked: str | None = None


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A sample that is shown, and what is known of it.

    Attributes:
        id: The sample id, 16 hex digits.
        index: The place in the split.
        hard_label: The class's number, or those of all independent classes that are yes; None where
            the sample is unlabelled.
        unknown: The independent classes of which it is not known whether they are there.
        kinds: The reasons for which it is shown.
        image: What it looks like, as `views` are what its stored views look like.
        suspicion: The probability that the hard label is wrong; only of suspects.
        views: Only of training samples, as are `view_labels`, the teacher's classes.
        says: By network, the classes that it predicts.
        disagreement: Mean KL(teacher || student) in nats; absent where there is no network of the
            teacher.
        maps: By network, what its prediction rests on; only of samples with maps.
        map_agreement: By student, the rank correlation of its map with the teacher's.
    """

    id: str
    split: Literal["train", "test"]
    index: int
    hard_label: int | list[int] | None
    unknown: list[int] | None = None
    kinds: list[str]
    image: Look
    suspicion: float | None = None
    views: list[Look] | None = None
    view_labels: list[Ranked] | None = None
    says: dict[str, Ranked]
    disagreement: float | None = None
    maps: dict[str, MapLook] | None = None
    map_agreement: dict[str, float] | None = None


@dataclass(frozen=True)
class ShownSamples:
    """The content of data/explain/samples.json; sheets are the names of files beside it.

    Attributes:
        tile_px: Height and width of a tile, as are `map_px` of a map; `columns` of them make a row
            of a sheet. None, as are the sheets, where samples are shown in words.
    """

    class_names: list[str]
    networks: list[str]
    tile_px: list[int] | None
    columns: int
    tiles_sheet: str | None
    maps_sheet: str | None
    map_px: list[int] | None
    store: str | None
    samples: list[SampleRow]


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """An image that is shown with its maps of classes.

    Attributes:
        id: The sample id, 16 hex digits.
        index: The place in the split.
        kinds: The reasons for which it is shown.
        image: The number of its tile, as is `mask` of the known map, and `maps` of each network's.
        iou: The mean IoU of each network; only of test images.
        disagreement: Mean KL(teacher || student) in nats; only of test images.
        suspicion: The share of the map that the teacher gives other classes; only of suspects.
    """

    id: str
    split: Literal["train", "test"]
    index: int
    kinds: list[str]
    image: int
    mask: int
    maps: dict[str, int]
    iou: dict[str, float] | None = None
    disagreement: float | None = None
    suspicion: float | None = None


@dataclass(frozen=True)
class ShownMaps:
    """The content of data/explain/samples.json where each position has a class.

    Attributes:
        colours: Of the classes, as `#rrggbb`; `unknown` is where nothing is known.
    """

    class_names: list[str]
    networks: list[str]
    tile_px: list[int]
    columns: int
    tiles_sheet: str
    maps_sheet: str | None
    colours: list[str]
    unknown: str
    samples: list[MapRow]
