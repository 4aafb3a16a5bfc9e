"""The stage `explain` where each position has a class.

Images are shown with their maps: where students do best, as usual and worst, where they are
furthest from the teacher, and training images whose map is probably wrong. Maps of what a network
looks at are left out: it answers for each position, mostly by what lies there.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.core.files import write_bytes
from pipeline.core.progress import progress
from pipeline.core.tables import lines_of
from pipeline.data.dataset import ImageDataset
from pipeline.data.split_on_disk import SplitOnDisk
from pipeline.explanation.checked_labels import sample_keys
from pipeline.explanation.class_colours import UNKNOWN, class_colours
from pipeline.explanation.disagreement import answers_of, has_teacher
from pipeline.explanation.places import Places
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown_maps import EACH, Maps, MapSheet, choose_test, shown_networks
from pipeline.explanation.suspect_maps import MOST_CHECKED, Contradicted, contradicted_maps
from pipeline.explanation.tiles import COLUMNS, TileSheet
from pipeline.models.devices import choose_device
from pipeline.models.predict import at_once, predict_logits
from pipeline.models.saved import read_model
from pipeline.results.explanation import Explanation, ShownMaps
from pipeline.results.files import write_result
from pipeline.results.networks import TEACHER, stage_of
from pipeline.signals import signal_named

_NO_TEACHER = "there is no network of the teacher"


def explain_maps(
    folders: Mapping[str, Path],
    distilled: list[str],
    predictions: Mapping[str, torch.Tensor],
    settings: Explain,
    places: Places,
) -> str:
    """Writes the files of the stage; returns what it found, in a line.

    Args:
        folders: The trained networks by name, the teacher first where there is one.
        distilled: The students that are not twins.
        predictions: The tensors that `evaluate` wrote.
    """
    dataset = ImageDataset(places.data)
    shower = _Shower(folders, dataset, settings)
    # 1. Training images whose map is probably wrong.
    suspects = shower.suspects() if TEACHER in folders else None
    # 2. The images to show.
    for place, share in zip(*_worst(suspects, settings.num_suspects), strict=True):
        shower.show_training(int(place), float(share))
    shower.show_test(predictions, distilled, places.evaluated)
    # 3. The files.
    write_bytes(places.out / "tiles.png", shower.sheet.tiles.png())
    write_result(places.out / "samples.json", shower.shown())
    _write_suspects(places, suspects, dataset.stream("train"))
    write_result(places.reports / "explain.json", _explanation(suspects))
    found = _NO_TEACHER if suspects is None else f"{len(suspects.places):,} of {suspects.num_checked:,} maps look wrong"
    return f"{found}; {len(shower.sheet.rows)} images shown with their maps"


class _Shower:
    """The sheet of images, and the networks whose maps are on it."""

    def __init__(self, folders: Mapping[str, Path], dataset: ImageDataset, settings: Explain) -> None:
        self._settings, self._manifest = settings, dataset.manifest
        self._train, self._test = dataset.stream("train"), dataset.stream("test")
        self.names, self._device = shown_networks(list(folders)), choose_device(settings.device)
        self._models = {name: read_model(folders[name], made_by=stage_of(name)) for name in self.names}
        self._at_once = at_once(settings.batch_size, signal_named("grid"), self._train.input_shape)
        self.sheet = MapSheet(len(dataset.manifest.class_names), TileSheet(*self._train.input_shape[1:]))

    def suspects(self) -> Contradicted:
        """Returns the training images whose map the teacher contradicts."""
        model = self._models[TEACHER].to(self._device)
        with progress("explain", min(len(self._train), MOST_CHECKED), "image") as on_images:
            return contradicted_maps(model, self._train, self._device, self._at_once, on_images)

    def show_training(self, place: int, share: float) -> None:
        """Shows a training image, with the maps that networks make of it now."""
        sample, maps = self._train.take(np.array([place])), dict[str, np.ndarray]()
        for name, model in self._models.items():
            outputs = predict_logits(model.to(self._device), [sample.inputs], self._device)
            maps[name] = outputs[0].argmax(dim=0).numpy()
        about = {"kinds": ["probably mislabelled"], "suspicion": round(share, 4)}
        self.sheet.add("train", place, sample, maps, **about)

    def show_test(self, predictions: Mapping[str, torch.Tensor], distilled: list[str], where: Path) -> None:
        """Shows test images, with the maps that `evaluate` kept."""
        count = len(self._test)
        ious = answers_of(predictions, distilled, "iou", count, where)
        far = None
        if has_teacher(predictions):
            far = torch.stack([*answers_of(predictions, distilled, "kl_to_teacher", count, where).values()])
            far = far.double().mean(dim=0)
        said = answers_of(predictions, self.names, "predicted", count, where)
        of_each = answers_of(predictions, self.names, "iou", count, where)
        for place, kinds in choose_test(ious, far, self._settings.num_disagreed).items():
            maps: Maps = {name: values[place].numpy() for name, values in said.items()}
            iou = {name: round(values[place].item(), 4) for name, values in of_each.items()}
            sample = self._test.take(np.array([place]))
            nats = None if far is None else round(far[place].item(), 6)
            self.sheet.add("test", place, sample, maps, kinds=kinds, iou=iou, disagreement=nats)

    def shown(self) -> ShownMaps:
        """Returns the content of samples.json."""
        colours = class_colours(self.sheet.num_classes).tolist()
        return ShownMaps(
            class_names=self._manifest.class_names,
            networks=self.names,
            tile_px=list(self.sheet.tiles.tile_px),
            columns=COLUMNS,
            tiles_sheet="tiles.png",
            maps_sheet=None,
            colours=[_hex(colour) for colour in colours],
            unknown=_hex(UNKNOWN),
            samples=self.sheet.rows,
        )


def _hex(colour: tuple[int, ...] | list[int]) -> str:
    return "#" + "".join(f"{level:02x}" for level in colour)


def _worst(suspects: Contradicted | None, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places and shares of the suspects that are shown."""
    if suspects is None:
        return np.empty(0), np.empty(0)
    return suspects.places[: min(EACH, most)], suspects.shares[: min(EACH, most)]


def _write_suspects(places: Places, suspects: Contradicted | None, train: SplitOnDisk) -> None:
    """Writes all suspects as a table, worst first, with the source's name of each."""
    rows = [["sample_id", "index", "contradicted", "key"]]
    if suspects is not None:
        keys = sample_keys(places.data / "samples.tsv", suspects.places)
        for place, share in zip(suspects.places.tolist(), suspects.shares.tolist(), strict=True):
            rows.append([f"{int(train.sample_ids[place]):016x}", str(place), f"{share:.6f}", keys[place]])
    write_bytes(places.reports / "suspects.tsv", "".join(lines_of(rows)).encode())


def _explanation(suspects: Contradicted | None) -> Explanation:
    found, checked = (0, 0) if suspects is None else (len(suspects.places), suspects.num_checked)
    why = _NO_TEACHER if suspects is None else None
    return Explanation(found, checked, why, [], None, 0, {}, {}, "maps of training images")
