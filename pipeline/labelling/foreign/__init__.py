"""Label files of other systems, read as one label a sample; docs/labels.md has what is kept.

A layout is a class that finds its files and yields labels of views with the names of their samples.
A new one is a file here and a name in the table below. Nothing in a file is executed, and sizes are
looked at before anything is unpacked.

base.py               the interface of a layout, and the check that labels can be a teacher's
names.py              samples by the names that others have for them
means.py              the mean of a sample's labels, and the line about what it is good for
tinyvit.py            TinyViT's records of k classes, epoch by epoch
fkd.py                FKD's crops of each image
torch_arrays.py       arrays in files of torch.save
ced.py                CED's HDF5 files, with a table of names
hdf5.py               arrays in HDF5 files; the one file that imports h5py
distillkit.py         DistillKit's Parquet files, of one position a row
distillkit_values.py  its compressed log-probabilities
"""

from pipeline.core.errors import ConfigError, suggest
from pipeline.data.signal_kinds import SignalKind
from pipeline.labelling.foreign.base import Described, ForeignLabels
from pipeline.labelling.foreign.ced import CED
from pipeline.labelling.foreign.distillkit import DistillKit
from pipeline.labelling.foreign.fkd import FKD
from pipeline.labelling.foreign.tinyvit import TinyViT

__all__ = ["LAYOUTS", "Described", "ForeignLabels", "open_layout"]

LAYOUTS: dict[str, type[ForeignLabels]] = {"tinyvit": TinyViT, "fkd": FKD, "ced": CED, "distillkit": DistillKit}


def check_layout(name: str | None, signal: SignalKind) -> None:
    """Raises ConfigError where the data's labels are not of the kind that such files hold; None is
    the layout of a file of one's own.
    """
    if signal == "grid":
        found = "a file of logits has a row for each image, and the data has a class at each position"
        fix = "train the teacher here, or take it in as a network (train_teacher.model)"
        raise ConfigError("--logits", found, fix=fix)
    if name is not None and signal != "categorical":
        found = f"{name}, whose labels are of one class of several, and the data's classes are independent"
        raise ConfigError("--layout", found, fix="import log-odds from a file of your own, without --layout")


def open_layout(name: str, described: Described) -> ForeignLabels:
    """Returns the label files of a layout.

    Raises ConfigError for another name, or for options that it has no use for; DataError where
    there are no such files.
    """
    if name not in LAYOUTS:
        raise ConfigError("--layout", repr(name), expected=suggest(name, list(LAYOUTS)))
    if described.ids is not None and not LAYOUTS[name].takes_ids:
        raise ConfigError("--ids", f"given with --layout {name}, whose files name the samples", fix="leave it out")
    if described.probabilities:
        raise ConfigError("--probabilities", f"given with --layout {name}, which decides that", fix="leave it out")
    return LAYOUTS[name](described)
