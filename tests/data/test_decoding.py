"""Files of every mode become upright grey or RGB pixels, or one reason why not; `fit` follows its
formula.
"""

import io
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pipeline.core.threads import Pause, map_in_order, own_cores
from pipeline.data import decoding
from pipeline.data.decoding import (
    EXIF_ORIENTATION,
    MOST_PIXELS,
    decode,
    fit,
    height_and_width,
    num_channels,
    to_jpeg,
    to_png,
)
from pipeline.data.file_content import DecodeError, read
from pipeline.data.jpeg_header import plain_size
from pipeline.preparation.pool import decode_all

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (7, 5, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (7, 5), np.uint8)
DEEP = RNG.integers(0, 65536, (7, 5), np.uint16)
FEW = RNG.integers(0, 6, (7, 5), np.uint8)
PALETTE = RNG.integers(0, 256, (6, 3), np.uint8)


def packed(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def with_palette() -> Image.Image:
    image = Image.frombytes("P", (5, 7), FEW.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


def over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.round(values * share + 255 * (1 - share))


def luma(colour: np.ndarray) -> np.ndarray:
    return colour @ np.array([0.299, 0.587, 0.114])


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


MODES: dict[str, tuple[bytes, np.ndarray, int]] = {  # a file, its pixels [height, width, 3], channels by its header
    "1": (packed(Image.fromarray(GREY > 127)), repeated(np.where(GREY > 127, 255, 0)), 1),
    "L": (packed(Image.fromarray(GREY)), repeated(GREY), 1),
    "LA": (
        packed(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])),
        over_white(repeated(GREY), ALPHA),
        1,
    ),
    "P": (packed(with_palette()), PALETTE[FEW], 3),
    "P of a GIF": (packed(with_palette(), "GIF"), PALETTE[FEW], 3),
    "PA": (
        packed(with_palette(), transparency=bytes([0, 40, 255, 255, 255, 200])),
        over_white(PALETTE[FEW], np.array([0, 40, 255, 255, 255, 200])[FEW]),
        3,
    ),
    "P with one colour clear": (
        packed(with_palette(), transparency=2),
        over_white(PALETTE[FEW], np.where(FEW == 2, 0, 255)),
        3,
    ),
    "RGB": (packed(Image.fromarray(COLOUR)), COLOUR, 3),
    "RGB of a BMP": (packed(Image.fromarray(COLOUR), "BMP"), COLOUR, 3),
    "RGB of a WebP": (packed(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR, 3),
    "RGB of a PPM": (packed(Image.fromarray(COLOUR), "PPM"), COLOUR, 3),
    "RGB of a TIFF": (packed(Image.fromarray(COLOUR), "TIFF"), COLOUR, 3),
    "RGBA": (packed(Image.fromarray(np.dstack([COLOUR, ALPHA]))), over_white(COLOUR, ALPHA), 3),
    "I;16": (packed(Image.fromarray(DEEP)), repeated(np.round(DEEP / 257)), 1),
    "I;16 of a TIFF": (packed(Image.fromarray(DEEP), "TIFF"), repeated(np.round(DEEP / 257)), 1),
    "I": (packed(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), repeated(np.round(DEEP / 257)), 1),
    "CMYK": (
        packed(Image.frombytes("CMYK", (5, 7), np.dstack([COLOUR, ALPHA]).tobytes()), "TIFF"),
        (255.0 - COLOUR) * (255 - repeated(ALPHA)) / 255,
        3,
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_the_pixels_that_one_sees(name: str) -> None:
    content, expected, channels = MODES[name]
    assert num_channels(content) == channels
    colour = decode(content, 3)
    assert colour.shape == (3, 7, 5)
    assert colour.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(colour.transpose(1, 2, 0), expected, atol=1)
    np.testing.assert_allclose(decode(content, 1)[0], luma(expected), atol=1.5)


@pytest.mark.parametrize("name", ["1", "L", "I;16", "I"])
def test_grey_is_the_same_levels_in_one_channel_and_in_three(name: str) -> None:
    content, expected, _ = MODES[name]
    np.testing.assert_array_equal(decode(content, 1)[0], expected[..., 0])
    np.testing.assert_array_equal(decode(content, 3), decode(content, 1).repeat(3, axis=0))


@pytest.mark.parametrize("name", ["P", "RGB", "RGB of a WebP"])
def test_what_is_stored_without_loss_is_exact(name: str) -> None:
    content, expected, _ = MODES[name]
    np.testing.assert_array_equal(decode(content, 3).transpose(1, 2, 0), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_stands_upright_whatever_its_exif_orientation(orientation: int, kind: str) -> None:
    upright = np.zeros((40, 24), np.uint8)
    upright[:16, :8] = 255  # the top left corner alone
    stored = {  # how a camera that was held so writes it
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    found = decode(packed(image, kind, exif=exif), 1)[0]
    assert found.shape == upright.shape
    np.testing.assert_allclose(found, upright, atol=40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as the module itself does, but pytest overrules it
def test_damaged_exif_does_not_break_sound_pixels() -> None:
    content = packed(Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff")
    assert decode(content, 3).shape == (3, 7, 5)


def bomb(width: int, height: int) -> bytes:
    """Returns the header of a PNG file, and no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


LARGE = packed(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
BAD = {
    "empty": (b"", "empty (0 bytes)"),
    "text": (b"<!DOCTYPE html><html>", "a web page, not an image"),
    "cut JPEG": (LARGE[: len(LARGE) // 2], "damaged (image file is truncated"),
    "cut PNG": (MODES["RGB"][0][:-30], "damaged ("),
    "cut in its header": (MODES["RGB"][0][:20], "damaged ("),
    "flipped": (MODES["RGB"][0][:45] + b"\xff\xff\xff" + MODES["RGB"][0][48:], "damaged ("),
    "no pixels": (bomb(5, 7), "damaged ("),
    "large": (bomb(8193, 8193), f"8,193 x 8,193 pixels, at most {MOST_PIXELS:,} are read"),
    "larger": (bomb(10_000, 10_000), f"pixels, at most {MOST_PIXELS:,} are read"),
    "bomb": (bomb(60_000, 60_000), f"pixels, at most {MOST_PIXELS:,} are read"),
    "fractions": (packed(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "pixels are fractions"),
    "more than 16 bits": (
        packed(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"),
        "pixels are 70000 to 70000",
    ),
    "Encapsulated PostScript": (
        packed(Image.fromarray(COLOUR), "EPS"),
        "PostScript, which is not read; convert it to PNG or JPEG",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_can_not_be_decoded_is_told_with_its_reason(name: str) -> None:
    content, reason = BAD[name]
    with pytest.raises(DecodeError) as error:
        decode(content, 3)
    assert reason in error.value.reason
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_at_all_raises_anything_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for content, _, _ in MODES.values():
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 1 + seed % 5):
            damaged[place] = rng.integers(256)
        try:
            image = decode(bytes(damaged), 1)
        except DecodeError:
            continue
        assert image.dtype == np.uint8


def test_pixels_and_paths_are_decoded_too(tmp_path: Path) -> None:
    content, _, _ = MODES["RGB"]
    (tmp_path / "a.png").write_bytes(content)
    expected = decode(content, 3)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 3), expected)
    np.testing.assert_array_equal(decode(expected, 3), expected)
    np.testing.assert_array_equal(decode(expected, 1), decode(content, 1))
    np.testing.assert_array_equal(decode(expected[:1], 3), expected[:1].repeat(3, axis=0))
    assert (num_channels(expected), num_channels(expected[:1]), num_channels(tmp_path / "a.png")) == (3, 1, 3)
    with pytest.raises(DecodeError, match="no such file"):
        read(tmp_path / "b.png")
    with pytest.raises(DecodeError, match="a folder"):
        read(tmp_path)
    with pytest.raises(DecodeError, match="2 channels, expected 1 or 3"):
        decode(expected[:2], 3)


def twin_fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an image fitted bilinear and antialiased, in float64.

    Every new pixel is a mean of old ones, weighed by a triangle.
    """
    _, height, width = image.shape
    scale = min(height / size[0], width / size[1])  # old pixels per new one

    def weights(old: int, new: int) -> np.ndarray:
        centres = old / 2 + (np.arange(new) + 0.5 - new / 2) * scale
        reach = max(scale, 1.0)
        far = np.abs(np.arange(old) + 0.5 - centres[:, None]) / reach
        rows = np.clip(1 - far, 0, None)
        return rows / rows.sum(axis=1, keepdims=True)

    return np.einsum("yh,chw,xw->cyx", weights(height, size[0]), image.astype(np.float64), weights(width, size[1]))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((3, 40, 60), (16, 16)),
        ((3, 60, 40), (16, 16)),
        ((1, 33, 47), (12, 20)),
        ((3, 47, 33), (20, 12)),
        ((1, 8, 8), (28, 28)),
        ((3, 5, 9), (32, 24)),
        ((1, 31, 31), (31, 17)),
        ((1, 1, 50), (4, 4)),
        ((3, 224, 300), (64, 64)),
        ((1, 64, 64), (1, 1)),
    ],
)
def test_fit_covers_the_size_and_cuts_at_the_centre(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    found = fit(image, size)
    assert found.shape == (shape[0], *size)
    np.testing.assert_allclose(found, twin_fit(image, size), atol=1.01)  # two passes are rounded
    np.testing.assert_array_equal(fit(image, size), found)


def test_fit_leaves_an_image_of_that_size_as_it_is() -> None:
    image = decode(MODES["RGB"][0], 3)
    np.testing.assert_array_equal(fit(image, (7, 5)), image)


@pytest.mark.parametrize(("shape", "size"), [((1, 40, 90), (20, 20)), ((1, 90, 40), (20, 20))])
def test_fit_takes_as_much_from_either_side(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    flipped = np.ascontiguousarray(image[:, ::-1, ::-1])
    np.testing.assert_allclose(fit(flipped, size)[:, ::-1, ::-1].astype(int), fit(image, size), atol=1)


def test_a_fine_pattern_becomes_its_mean_and_not_another_pattern() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 200, 100))
    np.testing.assert_allclose(fit(stripes, (25, 25))[:, :, 1:-1], 127.5, atol=4)


def smooth(height: int, width: int) -> Image.Image:
    """Returns a few colours that run into each other."""
    patches = np.random.default_rng(height * width).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize(
    ("stored", "size", "scale"),  # height and width
    [
        ((375, 500), (224, 224), 1),
        ((375, 500), (187, 224), 2),
        ((375, 500), (188, 224), 1),
        ((375, 500), (100, 250), 2),
        ((375, 501), (90, 90), 4),
        ((383, 769), (47, 48), 8),
        ((1024, 515), (32, 32), 8),
    ],
)
def test_a_large_jpeg_is_decoded_at_a_scale_that_shows_little_and_never_falls_below_its_size(
    stored: tuple[int, int], size: tuple[int, int], scale: int, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[int, int]] = []
    real = decoding._fitted

    def fitted(image: Image.Image, size: tuple[int, int], extent: tuple[float, float]) -> Image.Image:
        decoded.append(image.size[::-1])
        assert min(extent[1] - size[0], extent[0] - size[1]) >= 0
        return real(image, size, extent)

    asked = size[::-1] if orientation > 4 else size
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    content = packed(smooth(*stored), "JPEG", quality=90, exif=exif)
    exact = fit(decode(content, 3), asked)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_fitted", fitted)
        found = decode(content, 3, asked)
    assert decoded == [(-(-stored[0] // scale), -(-stored[1] // scale))]
    difference = np.abs(found.astype(int) - exact)
    assert difference.max() <= (4 if scale > 1 else 1)
    assert difference.mean() < 0.5
    np.testing.assert_array_equal(decode(content, 3, asked), found)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_files_of_other_kinds_are_decoded_in_full(kind: str) -> None:
    content = packed(smooth(200, 150), kind)
    np.testing.assert_array_equal(decode(content, 3, (40, 40)), fit(decode(content, 3), (40, 40)))


def test_a_damaged_jpeg_is_told_at_any_scale() -> None:
    content = packed(smooth(200, 150), "JPEG")
    with pytest.raises(DecodeError, match="damaged"):
        decode(content[: len(content) // 2], 3, (40, 40))


def test_the_longer_side_is_told_by_the_header() -> None:
    assert height_and_width(packed(smooth(200, 310), "JPEG")[:1000]) == (200, 310)
    assert height_and_width(np.zeros((1, 50, 31), np.uint8)) == (50, 31)
    with pytest.raises(DecodeError, match="not an image"):
        height_and_width(b"text")


def test_a_jpeg_is_no_longer_than_asked_and_a_shorter_image_keeps_its_size() -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 90).astype(np.uint8), (3, 60, 90))
    assert decode(to_jpeg(smooth, 45), 3).shape == (3, 30, 45)
    kept = decode(to_jpeg(smooth, 200), 3)
    assert kept.shape == (3, 60, 90)
    np.testing.assert_allclose(kept.astype(int), smooth, atol=6)
    assert decode(to_jpeg(smooth[:1, :1], 9), 1).shape == (1, 1, 9)


@pytest.mark.parametrize(("channels", "mode"), [(1, "RGB"), (3, "RGB"), (1, "L"), (3, "L")])
def test_pixels_come_to_the_place_that_is_given(channels: Literal[1, 3], mode: str) -> None:
    content, places = MODES[mode][0], np.zeros((2, channels, 4, 6), np.uint8)
    decode(content, channels, (4, 6), out=places[1])
    np.testing.assert_array_equal(places, [np.zeros_like(places[0]), decode(content, channels, (4, 6))])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_exactly_the_pixels(channels: int) -> None:
    image = RNG.integers(0, 256, (channels, 6, 4), np.uint8)
    np.testing.assert_array_equal(decode(to_png(image), 3 if channels == 3 else 1), image)


def test_many_are_decoded_in_their_order_and_broken_ones_are_told(tmp_path: Path) -> None:
    contents = [MODES["RGB"][0], b"", MODES["L"][0], tmp_path / "lost.jpg", COLOUR.transpose(2, 0, 1).copy()] * 9
    found = list(decode_all(contents, 3, workers=3, size=(4, 4)))
    assert len(found) == len(contents)
    for content, image in zip(contents, found, strict=True):
        if isinstance(image, DecodeError):
            assert image.reason in {"empty (0 bytes)", "no such file"}
        else:
            np.testing.assert_array_equal(image, fit(decode(content, 3), (4, 4)))
    assert sum(isinstance(image, DecodeError) for image in found) == 18
    assert [image.shape for image in decode_all(contents[:1], 1, workers=2)] == [(1, 7, 5)]


def test_threads_work_only_a_little_ahead_and_end_with_their_taker() -> None:
    given: list[int] = []
    before = threading.active_count()
    results = map_in_order(lambda number: number * 2, (given.append(n) or n for n in range(1000)), workers=2)  # type: ignore[func-returns-value]
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(given) < 20
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_fault_in_a_thread_reaches_the_taker() -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(lambda number: 1 // number, [1, 0], workers=2))


@pytest.mark.parametrize("workers", [1, 3])
def test_what_comes_after_a_pause_waits_until_all_before_it_is_taken(workers: int) -> None:
    taken = list[int]()

    def items() -> Iterator[int | Pause]:
        yield from range(5)
        yield Pause()
        assert taken == [0, 1, 4, 9, 16]
        yield 5

    for square in map_in_order(lambda number: number * number, items(), workers):
        taken.append(square)
    assert taken[-1] == 25


def test_one_worker_works_in_the_takers_own_thread() -> None:
    threads = list(map_in_order(lambda _: threading.current_thread(), range(3), workers=1))
    assert threads == [threading.current_thread()] * 3


def test_workers_of_a_loader_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.core.threads.usable_cores", lambda: 5)
    assert own_cores() == 5
    workers: DataLoader[int] = DataLoader(_Cores(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert list(workers) == [2, 2]


class _Cores(Dataset[int]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> int:
        return own_cores()


SMALL = Image.fromarray(RNG.integers(0, 256, (21, 34, 3), np.uint8))
TURNED = Image.Exif()
TURNED[EXIF_ORIENTATION] = 6
PLAIN = {
    "baseline": packed(SMALL, "JPEG"),
    "progressive": packed(SMALL, "JPEG", progressive=True),
    "with all colours": packed(SMALL, "JPEG", subsampling=0, comment=b"a note"),
}
NOT_PLAIN = {
    "turned": packed(SMALL, "JPEG", exif=TURNED),
    "grey": packed(SMALL.convert("L"), "JPEG"),
    "CMYK": packed(SMALL.convert("CMYK"), "JPEG"),
    "with a profile": packed(SMALL, "JPEG", icc_profile=b"profile"),
    "PNG": packed(SMALL),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*PLAIN, *NOT_PLAIN])
def test_plain_jpeg_files_have_the_pixels_that_pil_makes_of_any(
    name: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (PLAIN | NOT_PLAIN)[name]
    assert plain_size(content) == ((21, 34) if name in PLAIN else None)
    found = decode(content, channels)  # type: ignore[arg-type]
    monkeypatch.setattr(decoding, "plain_size", lambda content: None)
    np.testing.assert_array_equal(found, decode(content, channels))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [None, (375, 501), (300, 500), (187, 224), (47, 48), (32, 500), (600, 600)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_plain_jpeg_has_the_pixels_that_pil_makes_of_any_at_every_scale(
    size: tuple[int, int] | None, progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (375, 501, 3), np.uint8))
    content = packed(noise, "JPEG", progressive=progressive)
    assert plain_size(content) == (375, 501)
    assert len(content) > 1 << 16  # PIL gives it to its decoder in pieces
    found = decode(content, 3, size)
    monkeypatch.setattr(decoding, "plain_size", lambda content: None)
    np.testing.assert_array_equal(found, decode(content, 3, size))


def test_files_that_are_decoded_in_turn_have_their_own_pixels() -> None:
    sizes = [(64, 64), (30, 20), (30, 20), (1200, 1000), (30, 20), (64, 64)]
    images = [Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    files = [packed(image, "JPEG") for image in images]
    alone = [np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1) for file in files]
    for found, expected in zip([decode(file, 3) for file in files], alone, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("share", [0.005, 0.03, 0.3, 0.8, 0.98])
def test_a_plain_jpeg_file_that_is_cut_short_is_refused_as_any_is(
    name: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PLAIN["baseline"] if name == "small" else packed(SMALL.resize((500, 375)), "JPEG", quality=98)
    content = whole[: int(len(whole) * share)]
    with pytest.raises(DecodeError) as found:
        decode(content, 3)
    monkeypatch.setattr(decoding, "plain_size", lambda content: None)
    with pytest.raises(DecodeError, match=re.escape(found.value.reason)):
        decode(content, 3)
