"""Masks: they become maps of classes in the very geometry of their images, or are refused in one
line.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from project import small_params, write_params

from pipeline.core.errors import DataError, PipelineError, SourceError
from pipeline.data.dataset import ImageDataset
from pipeline.data.decoding import fit
from pipeline.data.file_content import DecodeError
from pipeline.doctor.images import look_at_prepared
from pipeline.preparation import blocks
from pipeline.preparation.index_images import decode_numbers
from pipeline.preparation.maps import fit_map
from pipeline.preparation.sources import build_source
from stages import prepare

CLASSES = ["sky", "road", "car"]
RANDOM = np.random.default_rng(5)


# One mask.


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (12, 3), (30, 40), (1, 1)])
@pytest.mark.parametrize("old", [(8, 8), (7, 13), (20, 11)])
def test_a_map_is_scaled_and_cut_as_fractions_say(old: tuple[int, int], size: tuple[int, int]) -> None:
    numbers = np.arange(old[0] * old[1], dtype=np.int16).reshape(old)
    scale = min(Fraction(old[0], size[0]), Fraction(old[1], size[1]))  # old pixels in one new one
    picked = [
        [
            floor(Fraction(old[axis], 2) + scale * (new + Fraction(1, 2) - Fraction(size[axis], 2)))
            for new in range(size[axis])
        ]
        for axis in (0, 1)
    ]
    np.testing.assert_array_equal(fit_map(numbers, size), numbers[picked[0]][:, picked[1]])


@pytest.mark.parametrize(("old", "size"), [((32, 48), (16, 16)), ((20, 10), (30, 30)), ((9, 30), (3, 6))])
def test_edges_in_a_map_lie_where_they_lie_in_its_image(old: tuple[int, int], size: tuple[int, int]) -> None:
    for axis in (0, 1):
        side = (np.arange(old[axis]) >= old[axis] // 2).astype(np.uint8)
        classes = np.broadcast_to(side[:, None] if axis == 0 else side, old)
        image = fit(np.ascontiguousarray(classes[None] * np.uint8(255)), size)[0]
        np.testing.assert_array_equal(fit_map(classes.astype(np.int16), size), (image >= 128).astype(np.int16))


def saved(path: Path, image: Image.Image, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **settings)
    return path


def palette(numbers: np.ndarray) -> Image.Image:
    image = Image.fromarray(numbers.astype(np.uint8)).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette([*(200, 3, 7), *(1, 90, 30), *(20, 20, 20), *(7, 7, 77)] * 64)
    return image


NUMBERS = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
READ: dict[str, Callable[[Path], Path]] = {
    "grey png": lambda here: saved(here / "x.png", Image.fromarray(NUMBERS)),
    "palette png": lambda here: saved(here / "x.png", palette(NUMBERS)),
    "palette png of 2 bits": lambda here: saved(here / "x.png", palette(NUMBERS), bits=2),
    "bmp": lambda here: saved(here / "x.bmp", Image.fromarray(NUMBERS)),
    "gif": lambda here: saved(here / "x.gif", palette(NUMBERS)),
    "tiff": lambda here: saved(here / "x.tif", Image.fromarray(NUMBERS)),
    "on its side": lambda here: saved(here / "x.png", Image.fromarray(np.rot90(NUMBERS).copy()), exif=on_its_side()),
}


def on_its_side() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    return exif


@pytest.mark.parametrize("kind", READ)
def test_the_numbers_in_a_file_are_the_classes(tmp_path: Path, kind: str) -> None:
    np.testing.assert_array_equal(decode_numbers(READ[kind](tmp_path)), NUMBERS)


def grey_png(numbers: np.ndarray, bits: int) -> bytes:
    """Returns a grey PNG file of few bits, which PIL does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b""
    for row in numbers:
        text = "".join(f"{number:0{bits}b}" for number in row)
        rows += b"\0" + int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    header = struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_files_of_few_bits_have_their_numbers_and_not_levels(bits: int) -> None:
    numbers = RANDOM.integers(0, min(1 << bits, 250), (5, 7))
    np.testing.assert_array_equal(decode_numbers(grey_png(numbers, bits)), numbers)


NO_NUMBERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "rgb": (lambda here: saved(here / "x.png", Image.new("RGB", (3, 2))), "pixels of RGB, expected one number below"),
    "16 bits": (lambda here: saved(here / "x.png", Image.new("I;16", (3, 2))), "pixels of 16 or 32 bits, expected one"),
    "with alpha": (lambda here: saved(here / "x.png", Image.new("LA", (3, 2))), "pixels of LA"),
    "jpeg": (lambda here: saved(here / "x.jpg", Image.new("L", (3, 2))), "a JPEG file, which may change numbers"),
    "tiff of 1 bit": (lambda here: saved(here / "x.tif", Image.new("1", (3, 2))), "a TIFF file of fewer than 8 bits"),
    "not there": (lambda here: here / "x.png", "no such file"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_a_file_without_numbers_is_refused(tmp_path: Path, kind: str) -> None:
    make, told = NO_NUMBERS[kind]
    with pytest.raises(DecodeError, match=told):
        decode_numbers(make(tmp_path))


# Whole sources.


def write_images(
    here: Path, count: int = 12, size: tuple[int, int] = (10, 14), splits: tuple[str, ...] = ("",)
) -> None:
    """Writes images whose levels are 80 times the class of their masks, and the masks."""
    for number in range(count):
        classes = RANDOM.integers(0, 3, size, dtype=np.uint8)
        for folder, pixels in (("images", classes * 80), ("masks", classes)):
            saved(here / folder / splits[number % len(splits)] / f"{number:02}.png", Image.fromarray(pixels))


def prepared(here: Path, row: dict[str, Any], **changes: Any) -> ImageDataset:
    params = small_params()
    section = {"image_px": None, "channels": 1, "val_fraction": 0.25, "test_fraction": 0.25} | changes
    params["prepare"] |= {"source": row} | section
    prepare.main(write_params(here, params), here / "raw", here / "out", here / "work")
    return ImageDataset(here / "out")


def folder_row(here: Path, **changes: Any) -> dict[str, Any]:
    return {"kind": "masks", "path": str(here), "classes": CLASSES, **changes}


def table_row(here: Path, suffix: str = "csv", **changes: Any) -> dict[str, Any]:
    lines = ["path,mask"] + [f"images/{n:02}.png,masks/{n:02}.png" for n in range(12)]
    (here / f"t.{suffix}").write_text("\n".join(lines))
    return {"kind": "manifest", "path": f"{here}/t.csv", "mask_column": "mask", "classes": CLASSES, **changes}


@pytest.mark.parametrize(("make", "storage"), [(folder_row, "encoded"), (table_row, "pixels")])
def test_each_pixel_keeps_its_class(tmp_path: Path, make: Callable[[Path], dict[str, Any]], storage: str) -> None:
    write_images(tmp_path)
    dataset = prepared(tmp_path, make(tmp_path), storage=storage)
    assert (dataset.manifest.signal, dataset.manifest.class_names) == ("grid", CLASSES)
    assert dataset.manifest.num_samples == {"train": 7, "val": 2, "test": 3}
    for split in (dataset.split("train"), dataset.stream("val"), dataset.split("test")):
        some = split.take(np.arange(len(split)))
        np.testing.assert_array_equal(some.inputs[:, 0].numpy(), some.hard_labels.numpy() * 80)
    assert "sky|road|car" in (dataset.folder / "samples.tsv").read_text()


def test_masks_are_fitted_as_images_are(tmp_path: Path) -> None:
    write_images(tmp_path, size=(40, 56))
    for place in (tmp_path / "images").iterdir():  # two regions, whose border both scale alike
        classes = np.zeros((40, 56), np.uint8)
        classes[:, 20:] = 2
        classes[int(place.stem) :, :] = 0
        saved(place, Image.fromarray(classes * 80))
        saved(tmp_path / "masks" / place.name, Image.fromarray(classes))
    some = prepared(tmp_path, folder_row(tmp_path), image_px=[20, 20]).split("train")
    sure = (some.inputs[:, 0] % 160 == 0).numpy()  # others are means of both
    np.testing.assert_array_equal(some.hard_labels.numpy()[sure] * 80, some.inputs[:, 0].numpy()[sure])
    assert sure.mean() > 0.8


def test_splits_unknown_pixels_and_images_without_a_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path, splits=("train", "valid", "test"))
    unknown = np.full((10, 14), 255, np.uint8)
    saved(tmp_path / "masks/train/00.png", Image.fromarray(unknown))
    half = np.where(np.arange(14) < 7, 1, 255) * np.ones((10, 1))
    saved(tmp_path / "masks/train/03.png", Image.fromarray(half.astype(np.uint8)))
    (tmp_path / "masks/train/06.png").unlink()
    saved(tmp_path / "masks/train/77.png", Image.fromarray(unknown))
    dataset = prepared(tmp_path, folder_row(tmp_path, ignore=255))
    assert dataset.manifest.num_samples == {"train": 4, "val": 4, "test": 4}
    assert dataset.manifest.num_unlabelled == 2
    known = sorted((dataset.split("train").hard_labels >= 0).flatten(1).sum(dim=1).tolist())
    assert known == [0, 0, 70, 140]
    told = capsys.readouterr().err
    for line in (
        "1 images without a mask, read as unlabelled, e.g. 'train/06.png'",
        "1 masks left out: no image has their name, e.g. 'train/77.png'",
        "no mask (unlabelled): 1 train",
        "labels: masks, a class for each pixel; of 10 images with a mask, 5.0% of the pixels are unknown",
        "masks, 3 classes, images 1 x 10 x 14, 4 train (2 of them unlabelled), 4 val, 4 test",
    ):
        assert line in told, told
    look = look_at_prepared(dataset)
    lines = look.understood.lines()
    assert "labels: masks, a class for each pixel; of 2 images with a mask, 25.0% of the pixels are unknown" in lines
    assert any(re.fullmatch(r"class 1 'road': \d\d\.\d% of the pixels", line) for line in lines), lines


def test_masks_in_another_folder_and_names_in_a_file_are_the_same(tmp_path: Path) -> None:
    write_images(tmp_path)
    manifest = prepared(tmp_path, folder_row(tmp_path)).manifest
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    assert prepared(tmp_path, folder_row(tmp_path, classes=None)).manifest == manifest
    (tmp_path / "masks").rename(tmp_path / "annotations")
    row = {"kind": "masks", "path": f"{tmp_path}/images", "masks": f"{tmp_path}/annotations", "classes": CLASSES}
    assert prepared(tmp_path, row).manifest == manifest


def test_a_class_that_no_image_has_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path)
    prepared(tmp_path, folder_row(tmp_path, classes=[*CLASSES, "boat"]))
    told = capsys.readouterr().err
    assert "class 3 'boat': no pixels" in told
    assert "no training images of 1 classes, the first: 'boat'" in told


def test_equal_images_with_other_masks_contradict_each_other(tmp_path: Path) -> None:
    write_images(tmp_path)
    saved(tmp_path / "images/99.png", Image.open(tmp_path / "images/00.png"))
    saved(tmp_path / "masks/99.png", Image.open(tmp_path / "masks/01.png"))
    dataset = prepared(tmp_path, folder_row(tmp_path))
    assert "99.png" in (dataset.folder / "contradictions.tsv").read_text()
    with pytest.raises(DataError, match=r"00\.png: 99\.png is the same image with another mask; 2 images like these"):
        prepared(tmp_path, folder_row(tmp_path), contradicting="refuse")
    assert sum(prepared(tmp_path, folder_row(tmp_path), contradicting="drop").manifest.num_samples.values()) == 11


def test_a_killed_run_goes_on_and_makes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path)
    whole = prepared(tmp_path, folder_row(tmp_path)).manifest
    monkeypatch.setattr(blocks, "_BLOCK_IMAGES", 5)
    save, calls = blocks.GrowingBlock.save, []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return save(*arguments)

    monkeypatch.setattr(blocks.GrowingBlock, "save", killed)
    changes = {"seed": 7}  # work of its own
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, folder_row(tmp_path), **changes)
    again = prepared(tmp_path, folder_row(tmp_path), **changes)
    assert len(calls) == 4  # blocks of 5, 5 (killed), 5 and 2
    some = again.split("train")
    np.testing.assert_array_equal(some.inputs[:, 0].numpy(), some.hard_labels.numpy() * 80)
    assert again.manifest.num_samples == whole.num_samples


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


ONE = "masks/05.png"
REFUSED: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "another size": (
        lambda here: saved(here / ONE, Image.new("L", (13, 10))),
        {},
        r"05\.png: its mask \S+masks/05\.png has 10 x 13 pixels \(height x width\), the image 10 x 14",
    ),
    "a number beyond": (
        lambda here: saved(here / ONE, Image.new("L", (14, 10), 255)),
        {},
        r"masks/05\.png: the number 255 \(row 0, column 0\); expected 0 to 2.*`ignore: 255`",
    ),
    "rgb": (
        lambda here: saved(here / ONE, Image.new("RGB", (14, 10))),
        {},
        r"05\.png: its mask \S+masks/05\.png: pixels of RGB",
    ),
    "damaged": (lambda here: spoil(here / ONE), {}, r"its mask \S+masks/05\.png: damaged"),
    "no names alike": (
        lambda here: (here / "masks").rename(here / "m") and saved(here / "masks/other.png", Image.new("L", (14, 10))),
        {},
        "no mask has an image's name: 'other.png', and '00.png'",
    ),
    "two masks": (
        lambda here: saved(here / "masks/05.bmp", Image.new("L", (14, 10))),
        {},
        "a second mask of one image",
    ),
    "no classes": (lambda here: None, {"classes": None}, "classes: not given, and masks have numbers alone"),
    "ignore is a class": (lambda here: None, {"ignore": 2}, "ignore: 2, which is the number of the class 'car'"),
    "no folder": (lambda here: None, {"masks": "nowhere"}, "nowhere: no such folder.*`masks`"),
    "among the images": (
        lambda here: (here / "masks").rename(here / "images/masks"),
        {"masks": "images/masks"},
        "a mask among the images",
    ),
    "a split beside others": (
        lambda here: saved(here / "images/val/x.png", Image.new("L", (14, 10))),
        {},
        "images beside the splits' folders; expected train",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_masks_is_one_line(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiling, changes, told = REFUSED[case]
    write_images(tmp_path)
    spoiling(tmp_path)
    monkeypatch.chdir(tmp_path)
    row = folder_row(tmp_path, **changes)
    if "masks" in changes:
        row["path"] = "images"
    with pytest.raises(PipelineError, match=told) as refused:
        prepared(tmp_path, row)
    assert len(str(refused.value)) <= 500
    assert "\n" not in str(refused.value)


def test_an_image_without_a_mask_is_refused_in_val_and_test(tmp_path: Path) -> None:
    write_images(tmp_path, splits=("train", "val", "test"))
    (tmp_path / "masks/val/01.png").unlink()
    with pytest.raises(SourceError, match="1 unlabelled images in the split 'val'"):
        prepared(tmp_path, folder_row(tmp_path))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label_column": "mask"}, "mask_column: given beside columns of labels"),
        ({"mask_column": None, "label_column": "mask", "ignore": 255}, "ignore: given without `mask_column`"),
        ({"mask_column": "masks"}, "no column 'masks'; expected .*mask"),
        ({"classes": None}, "classes: not given"),
    ],
)
def test_settings_of_a_table_that_contradict_each_other_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    write_images(tmp_path)
    with pytest.raises(SourceError, match=told):
        build_source(table_row(tmp_path) | changes, "here").class_names(tmp_path)


def test_a_cell_without_a_mask_is_unlabelled(tmp_path: Path) -> None:
    write_images(tmp_path)
    row = table_row(tmp_path)
    table = tmp_path / "t.csv"
    table.write_text(table.read_text().replace("masks/03.png", "").replace("masks/04.png", "NA"))
    assert prepared(tmp_path, row).manifest.num_unlabelled == 2
    table.write_text(table.read_text().replace("masks/05.png", "masks/5.png"))
    with pytest.raises(SourceError, match=r"masks/5\.png.*no such file"):
        prepared(tmp_path, row)
