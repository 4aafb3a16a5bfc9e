"""The ways in which samples are shown to people, by their kind.

A kind of samples is shown as a picture, or as parts in words; what a prediction on a sample rests
on is found by covering pieces of it, and is drawn over the picture or beside the parts. A new kind
is a file here, and a line in the table; nothing else in this room asks what a sample is.

base.py          a way to show a kind, and to find what predictions rest on
exhibit.py       what is shown of some samples: pictures on sheets of tiles, or parts
images.py        images as they are
occlusion.py     what a class loses where a piece of a sample is covered
rows.py          rows of a table by their columns
sounds.py        sounds as spectrograms
spectrogram.py   the spectrum of a sound over time, and the sound without a piece of it
texts.py         texts by their words
"""

from pipeline.data.dataset import ImageDataset
from pipeline.data.input_kinds import InputKindName
from pipeline.explanation.shown.base import PartShower, PictureShower, Shower
from pipeline.explanation.shown.images import ImageShower
from pipeline.explanation.shown.rows import RowShower
from pipeline.explanation.shown.sounds import SoundShower
from pipeline.explanation.shown.texts import TextShower

SHOWERS: dict[InputKindName, type[Shower]] = {
    cls.kind: cls for cls in (ImageShower, TextShower, SoundShower, RowShower)
}


def shower_of(dataset: ImageDataset) -> Shower:
    """Returns the way in which the samples of a data set are shown."""
    return SHOWERS[dataset.manifest.kind.name].of(dataset)


__all__ = ["SHOWERS", "PartShower", "PictureShower", "Shower", "shower_of"]
