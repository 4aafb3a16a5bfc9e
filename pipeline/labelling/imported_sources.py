"""The files of logits that an import reads: a table of them, or another system's labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.data.dataset import ImageDataset
from pipeline.labelling.foreign import Described, check_layout, open_layout
from pipeline.labelling.foreign.means import read_foreign
from pipeline.labelling.imported_ids import read_keys
from pipeline.labelling.imported_logits import ImportedLogits, read_logits
from pipeline.signals import signal_named


@dataclass(frozen=True)
class LogitFiles:
    """The files of logits that a command names, and its options about them."""

    path: Path
    ids: str | None
    are_probabilities: bool
    layout: str | None

    def read(self, dataset: ImageDataset, samples: Path, output_names: Sequence[str] | None) -> ImportedLogits:
        """Returns the logits, with the meaning that the data's classes have.

        Args:
            samples: The list `samples.tsv` of the data set.
            output_names: Those of the teacher's outputs; None: the data's classes.
        """
        signal = dataset.manifest.signal
        check_layout(self.layout, signal)
        if self.layout is None:
            found = read_logits(self.path, self.ids, samples, are_probabilities=self.are_probabilities)
            return replace(found, signal=signal_named(signal))
        num_outputs = len(output_names or dataset.manifest.class_names)
        files = open_layout(self.layout, Described(self.path, self.ids, self.are_probabilities, num_outputs))
        wanted = [dataset.stream(split).sample_ids for split in ("train", "val")]
        found = read_foreign(files, read_keys(samples), np.unique(np.concatenate(wanted)))
        return replace(found, signal=signal_named(signal))
