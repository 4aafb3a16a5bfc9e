"""The sources of raw images: one file each, and a table by the names that `params.yaml` uses.

`prepare.source` is `{kind: <name here>, ...settings}`. A new source is a class in a file here, and
a place in `SOURCES`.

    fashion_mnist.py  Fashion-MNIST, downloaded or found
    fashion_scenes.py  several of its items on a canvas, for demonstrations
    digits.py         scikit-learn's hand-written digits, for tests and trials
    folder.py         image files in a folder for each class
    masks.py          image files in a folder, and masks of the same names in another
    table.py          image files that a table lists: CSV, TSV or Parquet
    rows.py           the rows of a table, each of which is a sample
    sound_folder.py   sounds in a folder for each class
    sound_table.py    sounds that a table lists
    webdataset.py     tar files in WebDataset's layout
    parquet.py        Parquet files with images in a column, as on Hugging Face
    text_table.py     texts in a table: CSV, TSV, JSON lines or Parquet
    text_folder.py    text files in a folder for each class
    cifar.py          CIFAR-10 and CIFAR-100 in their binary distribution
    idx.py            pairs of IDX files, as MNIST has them
    numpy_arrays.py   NumPy arrays in .npz or .npy files

What they share:

    base.py           the abstract source, and a raw image
    notes.py          remarks about what a source left out, and how it read the rest
    pixels.py         sources whose images are arrays already
    inputs.py         the files that a source reads, as one fingerprint
    walking.py        the files in and below a folder, those behind links included
    clutter.py        names that are passed over
    file_kinds.py     the kinds of files that folders hold: images, sounds, texts
    image_files.py    image files, by their suffix or their first bytes
    patterns.py       paths that may be patterns
    near_misses.py    the file that was probably meant by a path that leads nowhere
    files.py          the files of a path, and the split that a file's name names
    labels.py         the one reading of labels: names, numbers of names in a list, or none
    label_sets.py     the same of sets of independent classes
    mask.py           the mask of an image, and the meaning of its numbers
    label_columns.py  the columns of a table that have labels or entries
    label_arrays.py   arrays of labels or entries
    survey.py         all labels of a source, counted and checked
    own_names.py      Parquet files that name their classes, each read by its own names
    class_folders.py  the class folders below a path, and the splits that they belong to
    accents.py        paths whose accents are typed in another way than on the disk
    split_names.py    the split that the name of a folder, a file or a cell names
    labelled_table.py  sources that are tables: labels and splits in columns
    table_rows.py     the rows of a table, in whatever file
    looked_up.py      rows of a second table, looked up by the value of a column
    ordered.py        splits by the order of a column, such as time
    tars.py           the members of a tar, as they are met
    arrow.py          Parquet files, read a few rows at a time
"""

from dataclasses import replace
from pathlib import Path

from pipeline.core.config import validate_kind
from pipeline.core.errors import ConfigError
from pipeline.preparation.sources.accents import as_on_disk
from pipeline.preparation.sources.base import Source
from pipeline.preparation.sources.cifar import Cifar
from pipeline.preparation.sources.digits import Digits
from pipeline.preparation.sources.fashion_mnist import FashionMnist
from pipeline.preparation.sources.fashion_scenes import FashionScenes
from pipeline.preparation.sources.folder import Folder
from pipeline.preparation.sources.idx import Idx
from pipeline.preparation.sources.masks import MaskFolder
from pipeline.preparation.sources.numpy_arrays import NumpyArrays
from pipeline.preparation.sources.parquet import Parquet
from pipeline.preparation.sources.rows import Rows
from pipeline.preparation.sources.sound_folder import SoundFolder
from pipeline.preparation.sources.sound_table import SoundTable
from pipeline.preparation.sources.table import Table
from pipeline.preparation.sources.text_folder import TextFolder
from pipeline.preparation.sources.text_table import TextTable
from pipeline.preparation.sources.webdataset import WebDataset

SOURCES: dict[str, type[Source]] = {
    source.kind: source
    for source in (
        FashionMnist,
        FashionScenes,
        Digits,
        Folder,
        MaskFolder,
        Table,
        Rows,
        SoundFolder,
        SoundTable,
        WebDataset,
        Parquet,
        Cifar,
        Idx,
        NumpyArrays,
        TextTable,
        TextFolder,
    )
}
_PATHS = ("path", "root", "classes", "masks")  # settings of some sources


def build_source(row: object, where: str) -> Source:
    """Returns the source that a row of settings names; raises ConfigError when kind or settings are
    wrong.

    Its paths are found whichever way their accents are typed.
    """
    source: Source = validate_kind(SOURCES, row, where)
    paths = {key: value for key in _PATHS if isinstance(value := getattr(source, key, None), str)}
    for key, path in paths.items():
        if path.startswith("~/") and not Path(path).exists():
            literal = f"{path!r}, and `~` stands for no folder in settings"
            raise ConfigError(f"{where}.{key}", literal, fix=f"write {Path(path).expanduser()}")
    found = {key: str(as_on_disk(Path(path))) for key, path in paths.items() if not path.isascii()}
    return replace(source, **found) if found else source  # type: ignore[type-var]
