"""Every network on the chosen samples: its predictions, and maps of what they rest on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64

from pipeline.core.progress import progress
from pipeline.explanation.attribution import map_agreement
from pipeline.explanation.samples import Samples
from pipeline.explanation.settings import Explain
from pipeline.explanation.shown.base import Network, Shower
from pipeline.explanation.shown.exhibit import Exhibit
from pipeline.models import Classifier
from pipeline.models.devices import choose_device
from pipeline.models.predict import predict_logits
from pipeline.models.saved import read_model
from pipeline.results.explanation import MapLook
from pipeline.results.networks import TEACHER, stage_of
from pipeline.signals import Signal
from pipeline.signals.categorical import CATEGORICAL


@dataclass(frozen=True)
class Predictions:
    """The networks' logits of the chosen samples, and their maps of the attributed ones.

    Attributes:
        rows: The numbers of the attributed samples.
        method: The way in which the maps were made.
        signal: The meaning of the logits.
    """

    logits: dict[str, Float[torch.Tensor, "chosen classes"]]
    rows: Int64[np.ndarray, " attributed"]
    maps: dict[str, Float[np.ndarray, "attributed ..."]]
    method: str
    signal: Signal = CATEGORICAL

    @classmethod
    def of(cls, folders: Mapping[str, Path], samples: Samples, settings: Explain, shower: Shower) -> "Predictions":
        """Runs every network on the chosen samples.

        The maps of all networks are for the class that the first one predicts, or that a suspect
        entry is of, so that they can be compared. The first is the teacher, where there is a
        network of it.
        """
        device, rows = choose_device(settings.device), samples.attributed
        logits: dict[str, torch.Tensor] = {}
        maps, first = {}, next(iter(folders))
        with progress("explain", len(folders) * len(rows), "map") as on_maps:
            for name, folder in folders.items():
                model = read_model(folder, made_by=stage_of(name)).to(device)
                logits[name] = predict_logits(model, samples.inputs.split(settings.batch_size), device)
                classes = samples.asked(logits[first].argmax(dim=1))[rows]
                network = Network(_values_of(model), classes, device)
                maps[name] = shower.attribute(network, samples.inputs[rows], settings)
                on_maps(len(rows))
                signal = model.signal
        return cls(logits, rows, maps, f"{shower.method(settings)}: what the class that {first} says loses", signal)

    def agreements(self, shift: int = 0) -> dict[str, Float[np.ndarray, " attributed"]]:
        """Returns each student's agreement with the teacher's map of the sample `shift` places
        further on.
        """
        if TEACHER not in self.maps:
            return {}
        others = {name: each for name, each in self.maps.items() if name != TEACHER}
        return {name: map_agreement(each, np.roll(self.maps[TEACHER], shift, axis=0)) for name, each in others.items()}

    def mean_agreements(self, shift: int = 0) -> dict[str, float]:
        """Returns the means of the agreements; none where there is no other sample to shift to."""
        if len(self.rows) <= shift:
            return {}
        return {name: round(float(values.mean()), 4) for name, values in self.agreements(shift).items()}

    def draw(self, samples: Samples, exhibit: Exhibit) -> list[dict[str, MapLook]]:
        """Shows all maps; returns those of each attributed sample by network."""
        inputs = [samples.inputs[place] for place in self.rows]
        return [
            {name: exhibit.add_map(one, maps[number]) for name, maps in self.maps.items()}
            for number, one in enumerate(inputs)
        ]


def _values_of(model: Classifier) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a network's values of samples, in float64."""
    return lambda pixels: model.signal.values(model(pixels).double(), 1.0)
