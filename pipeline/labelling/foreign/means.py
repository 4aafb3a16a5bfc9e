"""One label for each sample: the mean of what another system stored for views of it.

Another system's views can't be shown to a student here: their pixels follow from code and random
numbers that only that system has. The mean over them is what its teacher predicts for the image on
the whole, and stands for the image as it is. So no student ever learns from a label beside the
pixels of another view.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from pipeline.core.errors import DataError
from pipeline.core.memory import need_room
from pipeline.core.progress import progress, say
from pipeline.labelling.foreign.base import ForeignLabels, ViewLabels, need_whole
from pipeline.labelling.foreign.names import SampleNames
from pipeline.labelling.imported_logits import ImportedLogits


class MeanLabels:
    """The sums over views of samples' probabilities, while they are gathered.

    What a label leaves out is spread evenly over the outputs that it does not keep, as the other
    systems' own students read it.
    """

    def __init__(self, sample_ids: UInt64[np.ndarray, " samples"], num_outputs: int, where: Path) -> None:
        try:
            need_room(4 * len(sample_ids) * num_outputs)
        except ValueError as error:
            fix = "import part of the data, or on a larger machine"
            raise DataError(
                where, f"{len(sample_ids):,} samples of {num_outputs:,} outputs: {error}", fix=fix
            ) from None
        self.sample_ids = sample_ids
        self._rows = {sample: row for row, sample in enumerate(sample_ids.tolist())}
        self._named: dict[str, int] = {}
        self._sums = np.zeros((len(sample_ids), num_outputs), np.float32)
        self._spread = np.zeros(len(sample_ids), np.float32)
        self.counts = np.zeros(len(sample_ids), np.int64)
        self.unknown = 0  # labels of samples that are not here

    def add(self, labels: ViewLabels, names: SampleNames, where: object) -> None:
        """Adds labels to their samples; those of other samples are counted."""
        rows = self._find(labels, names, where)
        here = rows >= 0
        self.unknown += int((~here).sum())
        rows, outputs, shares = rows[here], labels.outputs[here], labels.probabilities[here]
        kept, num_outputs = outputs.shape[1], self._sums.shape[1]
        left = (1 - shares.sum(axis=1)).clip(min=0) / max(num_outputs - kept, 1) * (kept < num_outputs)
        np.add.at(self._spread, rows, left)
        # Flat: NumPy adds up at one list of places five times as fast as at pairs of them.
        places = rows[:, None] * num_outputs + outputs
        np.add.at(self._sums.ravel(), places.ravel(), (shares - left[:, None]).ravel())
        np.add.at(self.counts, rows, 1)

    def probabilities(self) -> Float32[np.ndarray, "samples outputs"]:
        """Returns the mean of each sample's labels; 0 where it has none."""
        means = self._sums
        means += self._spread[:, None]
        means.clip(min=0, out=means)
        means /= np.maximum(means.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return means

    def _find(self, labels: ViewLabels, names: SampleNames, where: object) -> Int64[np.ndarray, " labels"]:
        """Returns the row of each label's sample, -1 where it is not here; looks a name up once."""
        for name in set(labels.names) - self._named.keys():
            sample = names.find(name, where)
            self._named[name] = -1 if sample is None else self._rows.get(sample, -1)
        return np.array([self._named[name] for name in labels.names], np.int64)


def read_foreign(
    labels: ForeignLabels, keys: Mapping[str, int], sample_ids: UInt64[np.ndarray, " samples"]
) -> ImportedLogits:
    """Returns the mean label of each sample that the files name, and prints what it stands for.

    Raises DataError where files are damaged or of another layout, or name no sample of these.

    Args:
        keys: Sample ids by key.
        sample_ids: The samples whose labels are asked for.
    """
    names, means = SampleNames(keys), MeanLabels(sample_ids, labels.num_outputs, labels.path)
    with progress("import_labels: reading labels", len(labels.files), "file") as on_files:
        for file in labels.files:
            for some in labels.read(file):
                need_whole(some, labels.num_outputs, labels.tolerance, file)
                means.add(some, names, file)
            on_files(1)
    if not means.counts.any():
        raise DataError(labels.path, f"none of its {means.unknown:,} labels is of a sample of this data", fix=_FIX)
    note = _note(labels, means.counts[means.counts > 0])
    say(f"import_labels: {note}" + (f"; {means.unknown:,} labels of other samples left out" if means.unknown else ""))
    named = means.counts > 0
    values = means.probabilities() if named.all() else means.probabilities()[named]
    digest = hashlib.sha256(values.data).hexdigest()[:32]
    return ImportedLogits(labels.path, values, sample_ids[named], None, True, digest, note)


_FIX = "compare its names with the keys in samples.tsv"


def _note(labels: ForeignLabels, counts: Int64[np.ndarray, " samples"]) -> str:
    """Returns the line about what the labels are good for."""
    least, most = int(counts.min()), int(counts.max())
    views = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return f"each label is the mean over {views} {labels.views}, and stands for the image as it is: no view is replayed"
