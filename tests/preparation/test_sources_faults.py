"""Whatever is wrong with people's own images is one line: where it is, what was found and, where
there is one, the fix.
"""

import gzip
import json
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import all_of, idx, image_file, make_samples, source, write_parquet, write_tar, write_webdataset

from pipeline.core.errors import SourceError
from pipeline.preparation.sources.base import Source

FAULTS: list["Fault"] = []
IMAGE = image_file(0)


@dataclass(frozen=True)
class Fault:
    """A way to spoil what lies in a folder, and the line that is to be reported (HERE is the
    folder).
    """

    name: str
    make: Callable[[Path], Source]
    line: str


def reports(line: str) -> Callable[[Callable[[Path], Source]], Callable[[Path], Source]]:
    def add(make: Callable[[Path], Source]) -> Callable[[Path], Source]:
        FAULTS.append(Fault(make.__name__, make, line))
        return make

    return add


def put(path: Path, content: bytes = IMAGE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def folder(here: Path, *names: str, empty: str = "") -> Source:
    for name in names:
        put(here / name)
    if empty:
        (here / empty).mkdir(parents=True)
    return source("folder", here)


# Folders.


@reports("HERE/lost: no such folder; correct `path` in the source's settings")
def folder_that_is_lost(here: Path) -> Source:
    return source("folder", here / "lost")


@reports(
    "HERE/b: a class folder without images, but files left out: no image by its name (.txt); expected files that end in .jpg .jpeg .png* put images in, or delete the folder"
)
def folder_with_an_empty_class(here: Path) -> Source:
    return folder(here, "a/1.png", "b/notes.txt")


@reports("HERE/train/c: a class folder without images; *")
def folder_with_an_empty_class_in_a_split(here: Path) -> Source:
    return folder(here, "train/a/1.png", "train/b/1.png", empty="train/c")


@reports("HERE: only one class, 'a'; expected at least two classes")
def folder_with_one_class(here: Path) -> Source:
    return folder(here, "a/1.png", "a/2.png")


@reports("HERE: no labelled training image; expected at least two classes")
def folder_of_unlabelled_images(here: Path) -> Source:
    return folder(here, "_unlabelled/1.png")


@reports("HERE: no class folders; expected path/<class>/*.jpg or path/{train,val,test}/<class>/*.jpg")
def folder_with_nothing_in_it(here: Path) -> Source:
    return source("folder", here)


@reports("HERE/1.png: an image outside of every class folder; move it into a folder of its class, or into _unlabelled")
def folder_of_loose_images(here: Path) -> Source:
    return folder(here, "1.png")


@reports(
    "HERE: 'train' names a split, and 'tset' does not; expected one of: train, val, test (did you mean 'test'?); rename *"
)
def folder_with_a_misspelt_split(here: Path) -> Source:
    return folder(here, "train/a/1.png", "train/b/1.png", "tset/a/1.png")


@reports("HERE: two folders of the split 'val': 'val' and 'valid'; put them into one")
def folder_with_a_split_twice(here: Path) -> Source:
    return folder(here, "train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png")


@reports("HERE: class 'c' is in 'test' but not in 'train'; add training images, or take them out of 'test'")
def folder_with_a_class_for_tests_alone(here: Path) -> Source:
    return folder(here, "train/a/1.png", "train/b/1.png", "test/c/1.png")


@reports("HERE: no training images; expected a split `train`")
def folder_without_training_images(here: Path) -> Source:
    return folder(here, "test/a/1.png", "test/b/1.png")


@reports("HERE: 1 unlabelled images in the split 'val'; expected labels; label them, *")
def folder_with_unlabelled_val_images(here: Path) -> Source:
    return folder(here, "train/a/1.png", "train/b/1.png", "val/_unlabelled/1.png")


@reports("HERE/b/deep/loop: a link to a folder that it is in; delete the link")
def folder_in_a_circle(here: Path) -> Source:
    made = folder(here, "a/1.png", "b/deep/1.png")
    (here / "b/deep/loop").symlink_to(here / "b")
    return made


@reports("HERE/b: can't be read (*)")
def folder_that_is_locked(here: Path) -> Source:
    made = folder(here, "a/1.png", "b/1.png")
    (here / "b").rename(here / "c")
    (here / "b").symlink_to("b")
    return made


# Tables of files.


def manifest(here: Path, text: str, name: str = "t.csv", **settings: object) -> Source:
    put(here / name, text.encode("latin-1"))
    return source("manifest", here / name, **settings)


@reports("HERE/lost.csv: no such file; correct `path` in the source's settings")
def manifest_that_is_lost(here: Path) -> Source:
    return source("manifest", here / "lost.csv")


@reports("HERE/t.xlsx: ends in '.xlsx'; expected a table in .csv, .tsv, .jsonl (each packed as .gz, too) or .parquet")
def manifest_of_another_kind(here: Path) -> Source:
    return manifest(here, "", "t.xlsx")


@reports("HERE/t.csv: no column 'label'; expected one of: path, labels (did you mean 'labels'?); set `label_column`")
def manifest_without_its_column(here: Path) -> Source:
    return manifest(here, "path,labels\na.png,1\n")


@reports("HERE/t.parquet: no column 'path'; expected one of: file, label; set `image_column`")
def manifest_in_parquet_without_its_column(here: Path) -> Source:
    pq.write_table(pa.table({"file": ["a"], "label": ["b"]}), here / "t.parquet")
    return source("manifest", here / "t.parquet")


@reports("HERE/t.csv: no rows; expected images, one a line, below a line of column names")
def manifest_without_rows(here: Path) -> Source:
    return manifest(here, "path,label\n")


@reports("HERE/t.csv:3: 3 fields; expected 2, as in its first line")
def manifest_with_a_field_too_many(here: Path) -> Source:
    return manifest(here, "path,label\na.png,1\nb.png,2,x\n")


@reports("HERE/t.csv:3: path ''; expected the path of an image file")
def manifest_without_a_path(here: Path) -> Source:
    return manifest(here, "path,label\na.png,1\n,2\n")


@reports("HERE/t.csv:2: unknown split name 'private'; expected one of: train, val, valid, validation, test")
def manifest_with_an_unknown_split(here: Path) -> Source:
    return manifest(here, "path,label,split\na.png,1,private\n", split_column="split")


@reports("HERE/t.csv: not a table (*); expected UTF-8 text")
def manifest_in_another_code(here: Path) -> Source:
    return manifest(here, "path,label\na.png,caf\xe9\n")


@reports("HERE/pictures: no such folder; expected the one that paths are relative to; set `root`")
def manifest_with_a_lost_root(here: Path) -> Source:
    return manifest(here, "path,label\na.png,1\nb.png,2\n", root=str(here / "pictures"))


@reports("HERE/t.csv:2: label 3 is out of range; expected 0 to 1, or -1 for none")
def manifest_with_a_number_out_of_range(here: Path) -> Source:
    return manifest(here, "path,label\na.png,3\n", classes=["x", "y"])


@reports("HERE/t.csv:2: label 'xx', which is no class; expected one of: x, y (did you mean 'x'?)")
def manifest_with_a_name_that_is_no_class(here: Path) -> Source:
    return manifest(here, "path,label\na.png,xx\n", classes=["x", "y"])


@reports(
    "HERE/t.csv:2: label 'nmae512', which is no class; expected one of: name512, * (did you mean 'name512'?) and 1,000 in all"
)
def manifest_with_a_misspelt_name_of_many(here: Path) -> Source:
    return manifest(here, "path,label\na.png,nmae512\n", classes=[f"name{number}" for number in range(1000)])


@reports("HERE: the class 'a\\tb'; expected a name without tabs, line ends and the like")
def folder_with_a_tab_in_a_class(here: Path) -> Source:
    return folder(here, "a\tb/1.png", "c/1.png")


@reports("HERE/c.txt: the class 'x' twice; expected every name once")
def classes_twice(here: Path) -> Source:
    put(here / "c.txt", b"x\ny\nx\n")
    return manifest(here, "path,label\na.png,x\n", classes=str(here / "c.txt"))


@reports("HERE/c.txt: can't be read (No such file or directory); expected a class name per line")
def classes_lost(here: Path) -> Source:
    return manifest(here, "path,label\na.png,x\n", classes=str(here / "c.txt"))


@reports("classes: 1 names; expected a name per class, at least two")
def classes_of_one_name(here: Path) -> Source:
    return manifest(here, "path,label\na.png,x\n", classes=["x"])


@reports("HERE/c.txt: an empty name; expected a name per class, at least two")
def classes_with_an_empty_line(here: Path) -> Source:
    put(here / "c.txt", b"x\n\ny\n")
    return manifest(here, "path,label\na.png,x\n", classes=str(here / "c.txt"))


# Tars.


def tar(here: Path, members: dict[str, bytes], **settings: object) -> Source:
    write_tar(here / "a.tar", members.items())
    return source("webdataset", here, **settings)


@reports("HERE: no files; expected some that end in .tar or .tar.gz or .tgz")
def tars_lost(here: Path) -> Source:
    return source("webdataset", here)


@reports("HERE/x-*.tar: no files; expected some that end in *")
def tars_of_no_match(here: Path) -> Source:
    return source("webdataset", here / "x-*.tar")


@reports("HERE/x-001.tar: no such file; correct the numbers in `path`, or fetch it")
def tar_of_a_number_lost(here: Path) -> Source:
    write_tar(here / "x-000.tar", [("a.cls", b"1")])
    return source("webdataset", here / "x-{000..001}.tar")


@reports("HERE/a.tar: not a sound tar (*); fetch it again")
def tar_that_is_none(here: Path) -> Source:
    put(here / "a.tar", b"<html>" * 200)
    return source("webdataset", here)


def spoilt(here: Path, spoil: Callable[[bytes, tarfile.TarInfo], bytes]) -> Source:
    """Tars of which one is spoilt; `spoil` is told where its last member lies."""
    write_webdataset(here, make_samples())
    path = here / "pets-val-0000.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(spoil(path.read_bytes(), last))
    return source("webdataset", here)


@reports("HERE/pets-val-0000.tar: not a sound tar (cut short); fetch it again")
def tar_without_its_end(here: Path) -> Source:
    return spoilt(here, lambda content, last: content[: last.offset_data + 512])


@reports("HERE/pets-val-0000.tar: not a sound tar (cut short); fetch it again")
def tar_cut_between_members(here: Path) -> Source:
    return spoilt(here, lambda content, last: content[: last.offset])


@reports("HERE/pets-val-0000.tar: not a sound tar (unexpected end of data); fetch it again")
def tar_cut_in_a_member(here: Path) -> Source:
    return spoilt(here, lambda content, last: content[: last.offset - 700])


@reports("HERE/pets-val-0000.tar: not a sound tar (a damaged header at byte *); fetch it again")
def tar_with_a_damaged_header(here: Path) -> Source:
    return spoilt(here, lambda content, last: content[: last.offset] + b"\xff" + content[last.offset + 1 :])


@reports("HERE/pets-val-0000.tar: not a sound tar (*); fetch it again")
def tar_with_a_damaged_first_header(here: Path) -> Source:
    return spoilt(here, lambda content, last: b"\xff" + content[1:])


@reports("HERE/pets-test-0000.tar.gz: not a sound tar (*); fetch it again")
def tar_packed_and_cut(here: Path) -> Source:
    write_webdataset(here, make_samples(), suffix=".tar.gz")
    path = here / "pets-test-0000.tar.gz"
    path.write_bytes(path.read_bytes()[:-60])
    return source("webdataset", here)


@reports(
    "a.tar:1: 0 images among cls, jp2; expected one of jpg, jpeg, png, *; set `image_extensions` in the source's settings"
)
def tar_of_samples_without_an_image(here: Path) -> Source:
    return tar(here, {"1.cls": b"1", "1.jp2": IMAGE})


@reports("a.tar:1: 2 images among png, jpg; expected one of *")
def tar_of_samples_with_two_images(here: Path) -> Source:
    return tar(here, {"1.png": IMAGE, "1.jpg": IMAGE})


@reports("HERE/a.tar:1: two members with the extension 'png'; expected one")
def tar_with_a_member_twice(here: Path) -> Source:
    return tar(here, {"1.png": IMAGE, "1.PNG": IMAGE})


@reports("a.tar:1.json: not JSON (*)")
def tar_with_broken_json(here: Path) -> Source:
    return tar(here, {"1.png": IMAGE, "1.json": b"{"}, label_extension="json", label_key="label")


@reports("a.tar:1.json: no entry 'label'; set `label_key` in the source's settings to one of: class")
def tar_without_its_key(here: Path) -> Source:
    return tar(here, {"1.png": IMAGE, "1.json": b'{"class": 1}'}, label_extension="json", label_key="label")


@reports("a.tar:1: label {'a': 1} (dict); expected one name or whole number")
def tar_with_several_labels(here: Path) -> Source:
    content = json.dumps({"label": [{"a": 1}, 2]}).encode()
    return tar(here, {"1.png": IMAGE, "1.json": content}, label_extension="json", label_key="label")


@reports("HERE: no sample has a label, a member that ends in .cls; set `label_extension` to one of: txt")
def tar_with_labels_of_another_extension(here: Path) -> Source:
    return tar(here, {"1.png": IMAGE, "1.txt": b"a"})


@reports("a.tar:1: not text (*); expected UTF-8")
def tar_with_a_label_that_is_no_text(here: Path) -> Source:
    return tar(here, {"1.png": IMAGE, "1.cls": b"\xff\xfe"})


@reports("HERE/other.tar: unknown split; expected in its name one of: train, val, valid, validation, test")
def tar_of_no_split(here: Path) -> Source:
    write_tar(here / "train.tar", [("1.png", IMAGE)])
    write_tar(here / "other.tar", [("1.png", IMAGE)])
    return source("webdataset", here)


@reports("HERE/train-test.tar: its name has test and train; expected one split")
def tar_of_two_splits(here: Path) -> Source:
    write_tar(here / "train-test.tar", [("1.png", IMAGE)])
    return source("webdataset", here)


# Parquet.


def parquet(here: Path, columns: dict[str, object], **settings: object) -> Source:
    pq.write_table(pa.table(columns), here / "t.parquet")
    return source("parquet", here, **settings)


@reports("HERE/t.parquet: not a sound Parquet file (*); fetch it again")
def parquet_that_is_none(here: Path) -> Source:
    put(here / "t.parquet", b"PAR1 and no more")
    return source("parquet", here)


@reports("HERE/test-00000-of-00002.parquet: not a sound Parquet file (*); fetch it again")
def parquet_damaged_inside(here: Path) -> Source:
    write_parquet(here, make_samples(), ["ant", "bee", "cat"])
    path = here / "test-00000-of-00002.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 200 + content[204:])
    return source("parquet", here)


@reports("HERE/t.parquet: no column for `image_column`; expected one; set `image_column` to one of: label")
def parquet_without_images(here: Path) -> Source:
    return parquet(here, {"label": ["a"]})


@reports("HERE/t.parquet: columns image, mask for `image_column`; expected one; set `image_column` to one of: *")
def parquet_with_two_columns_of_images(here: Path) -> Source:
    return parquet(here, {"image": [b"1"], "mask": [b"1"], "label": ["a"]})


@reports("HERE/t.parquet: no column for `label_column`; expected one; set `label_column` to one of: image, class")
def parquet_without_labels(here: Path) -> Source:
    return parquet(here, {"image": [b"1"], "class": ["a"]})


@reports("HERE/t.parquet: no column 'clas'; expected one of: image, class (did you mean 'class'?)")
def parquet_with_a_misspelt_column(here: Path) -> Source:
    return parquet(here, {"image": [b"1"], "class": ["a"]}, label_column="clas")


@reports("t.parquet:0: label 0.5, a fraction; expected a name or a whole number; name the class in `classes`, *")
def parquet_with_fractions_for_labels(here: Path) -> Source:
    return parquet(here, {"image": [b"1"], "label": [0.5]})


@reports("HERE: only one class, '0'; expected at least two classes; labels such as -1, nan and None stand for none: *")
def parquet_with_minus_one_and_no_names(here: Path) -> Source:
    return parquet(here, {"image": [b"1", b"2"], "label": [0, -1]})


@reports("t.parquet:0: an image that is str; expected bytes of an image file")
def parquet_with_text_for_images(here: Path) -> Source:
    return parquet(here, {"image": ["1", "2"], "label": ["a", "b"]}, image_column="image")


# Arrays.


def arrays(here: Path, **arrays_by_name: np.ndarray) -> Source:
    np.savez(here / "a.npz", **arrays_by_name)
    return source("arrays", here / "a.npz")


PIXELS, LABELS = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])


@reports("HERE/lost.npz: no such file or folder; correct `path` in the source's settings")
def arrays_that_are_lost(here: Path) -> Source:
    return source("arrays", here / "lost.npz")


@reports("HERE/a.npz: no array 'train_labels'; expected train_images and train_labels, and so for test")
def arrays_without_labels(here: Path) -> Source:
    return arrays(here, train_images=PIXELS)


@reports("HERE: no array 'train_images'; *")
def arrays_in_an_empty_folder(here: Path) -> Source:
    return source("arrays", here)


@reports("HERE/a.npz: train_images: pixels of float64; expected uint8 (0 to 255); convert them")
def arrays_of_fractions(here: Path) -> Source:
    return arrays(here, train_images=PIXELS / 2, train_labels=LABELS)


@reports("HERE/a.npz: train_images: an array of (2, 4, 4, 5); expected 1 or 3 channels")
def arrays_of_many_channels(here: Path) -> Source:
    return arrays(here, train_images=np.zeros((2, 4, 4, 5), np.uint8), train_labels=LABELS)


@reports(
    "HERE/a.npz: train_images: an array of (2, 3, 4, 3), which may be N,H,W,C or N,C,H,W; set `layout` to nhwc or nchw"
)
def arrays_of_doubtful_layout(here: Path) -> Source:
    return arrays(here, train_images=PIXELS[:, :3], train_labels=LABELS)


@reports("HERE/a.npz: train_images: an array of (2, 4); expected images in rows: N,H,W, N,H,W,C or N,C,H,W")
def arrays_of_rows(here: Path) -> Source:
    return arrays(here, train_images=PIXELS[:, :, 0, 0], train_labels=LABELS)


@reports("source 'arrays', train_images: 2 images and 1 labels; expected as many of both")
def arrays_of_other_lengths(here: Path) -> Source:
    return arrays(here, train_images=PIXELS, train_labels=LABELS[:1])


@reports("HERE/a.npz: train_labels: an array of (2, 3, 1); expected one number or name per image")
def arrays_with_many_labels_an_image(here: Path) -> Source:
    return arrays(here, train_images=PIXELS, train_labels=np.zeros((2, 3, 1), int))


@reports("HERE/a.npz: train_labels: truncated, damaged or not of numbers (*)")
def arrays_of_objects(here: Path) -> Source:
    return arrays(here, train_images=PIXELS, train_labels=np.array(["a", None], object))


@reports("HERE/train_images.npy: a single array; expected .npz, or the folder in which it is")
def arrays_of_which_one_is_named(here: Path) -> Source:
    np.save(here / "train_images.npy", PIXELS)
    return source("arrays", here / "train_images.npy")


@reports("HERE/a.npz: not an .npz file (*); expected .npz, or a folder of .npy files")
def arrays_that_are_none(here: Path) -> Source:
    put(here / "a.npz", b"PK\3\4 and no more")
    return source("arrays", here / "a.npz")


# IDX and CIFAR.


def pair(here: Path, images: bytes, labels: bytes = idx(np.array([0, 1], np.uint8)), suffix: str = "") -> Source:
    put(here / f"train-images-idx3-ubyte{suffix}", images)
    put(here / f"train-labels-idx1-ubyte{suffix}", labels)
    return source("idx", here)


@reports("HERE/train-images-idx3-ubyte: not an IDX file; expected IDX with unsigned bytes (0x08)")
def idx_that_is_none(here: Path) -> Source:
    return pair(here, b"<html>")


@reports("HERE/train-images-idx3-ubyte: IDX values of type 0x0d; expected IDX with unsigned bytes (0x08)")
def idx_of_fractions(here: Path) -> Source:
    return pair(here, idx(PIXELS[..., 0], kind=13))


@reports("HERE/train-images-idx3-ubyte: 46 bytes; expected 16 and those of an array of (2, 4, 4); fetch it again")
def idx_cut_short(here: Path) -> Source:
    return pair(here, idx(PIXELS[..., 0])[:-2])


@reports("HERE/train-images-idx3-ubyte.gz: truncated or damaged (*); fetch it again")
def idx_packed_and_cut(here: Path) -> Source:
    return pair(here, gzip.compress(idx(PIXELS[..., 0]))[:-9], gzip.compress(b""), ".gz")


@reports("HERE/train-images-idx3-ubyte: truncated or damaged (*); fetch it again")
def idx_empty(here: Path) -> Source:
    return pair(here, b"")


@reports("HERE, train: 0 files of labels; expected one; put the files of one data set into a folder of their own")
def idx_without_labels(here: Path) -> Source:
    put(here / "train-images-idx3-ubyte", idx(PIXELS[..., 0]))
    return source("idx", here)


@reports("HERE: no data_batch_1.bin (CIFAR-10) or train.bin (CIFAR-100); fetch the binary version; *")
def cifar_pickled(here: Path) -> Source:
    put(here / "data_batch_1", b"\x80\x02")
    return source("cifar", here)


@reports("HERE: CIFAR-10, which has no coarse labels; expected labels: fine")
def cifar_without_coarse_labels(here: Path) -> Source:
    put(here / "data_batch_1.bin", bytes(3073))
    return source("cifar", here, labels="coarse")


@reports("HERE/data_batch_2.bin: no such file; fetch the data set again")
def cifar_with_a_file_lost(here: Path) -> Source:
    put(here / "data_batch_1.bin", bytes(3073))
    return source("cifar", here)


@reports("HERE/train.bin: 3,073 bytes; expected a multiple of 3,074 (an image and its labels); fetch it again")
def cifar_cut_short(here: Path) -> Source:
    put(here / "train.bin", bytes(3073))
    return source("cifar", here)


@reports("source 'cifar', train.bin: label 100 is out of range; expected 0 to 99, or -1 for none")
def cifar_with_a_label_out_of_range(here: Path) -> Source:
    for name in ("train.bin", "test.bin"):
        put(here / name, b"\x05\x64" + bytes(3072))
    return source("cifar", here)


def pattern(line: str, here: Path) -> str:
    """Makes a regular expression of a line with HERE and *."""
    return re.escape(line).replace("HERE", re.escape(str(here))).replace(r"\*", ".*")


def read_all(made: Source) -> None:
    made.class_names(Path("raw"))
    all_of(made)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_one_line_that_tells_it_and_the_fix(fault: Fault, tmp_path: Path) -> None:
    here = tmp_path / "data"
    here.mkdir()
    made = fault.make(here)
    with pytest.raises(SourceError) as error:
        read_all(made)
    line = str(error.value)
    assert re.fullmatch(pattern(fault.line, here), line), line
    assert os.linesep not in line
