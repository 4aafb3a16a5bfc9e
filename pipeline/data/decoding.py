"""Encoded images -> pixels: it and preparation/{index_images,levels}.py import PIL.

Pixels are one of two things, whatever a file holds: grey or RGB, 8 bits, upright. EXIF rotation is
done, transparent pixels show white, a palette is looked up, CMYK becomes RGB. Of the 16 bits of a
file, the lower ones that are used are spread over 0 to 255 (all: divided by 257). The first frame
of an animation counts.

A JPEG file at least twice as large as what is asked for is decoded at a half, a quarter or an
eighth of its size, which leaves out most of the work. That differs a little from all of its pixels
made smaller, and so does the sample id: it is part of how pixels are made.
"""

import io
import math
import threading
import warnings
from contextlib import suppress
from typing import Literal

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from pipeline.data.file_content import Content, DecodeError, read
from pipeline.data.formats import HEAD_BYTES, kind_named
from pipeline.data.jpeg_header import plain_size

MOST_PIXELS = 2**26  # 8192 x 8192, 200 MB in colour; a small file can claim any size
EXIF_ORIENTATION = 0x0112

# No others: some of PIL's formats start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")  # and I;16 with any order of bytes
UPRIGHT = {  # how an image is turned, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)
_MANY_PIXELS = 1 << 13
_SCALES = (1, 2, 4, 8)
_KEPT_PIXELS = 1 << 20


class _Own(threading.local):
    """The picture that a thread decodes one file after the other onto, as long as they are of one
    size: 155 us for 224 x 224, in memory that the cache holds; 195 in a picture of its own.
    """

    canvas: Image.Image | None = None


_own = _Own()

# PIL warns of damaged EXIF, which does no harm, and only warns of images somewhat too large. The
# filters are for all threads, because a thread can't have its own.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


class DeepPixelsError(DecodeError):
    """An error that a file with 16 bits uses more of them than are read: `bits`."""

    def __init__(self, highest: int, most: int) -> None:
        self.bits = highest.bit_length()
        super().__init__(f"pixels are up to {highest}, expected {most} at most")


def num_channels(content: Content) -> Literal[1, 3]:
    """Returns 1 for a grey image, 3 for one that may have colour; raises DecodeError.

    The header alone decides. A palette counts as colour, and so does an RGB file whose pixels all
    happen to be grey.
    """
    found = read(content)
    if isinstance(found, np.ndarray):
        return 1 if len(found) == 1 else 3
    return 1 if _is_grey(open_image(found)) else 3


def highest_value(content: Content) -> int | None:
    """Returns the highest value in a grey file of 16 bits, None for one of 8; raises DecodeError.

    Colour of 16 bits counts as 8, because that is how PIL reads it.
    """
    found = read(content)
    if isinstance(found, np.ndarray):
        return None
    image = open_image(found)
    if not _is_deep(image):
        return None
    try:
        return int(_deep_values(image).max())
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        raise DecodeError(f"damaged ({error or type(error).__name__})") from None


def height_and_width(content: Content) -> tuple[int, int]:
    """Returns height and width of an upright image, by its header alone; raises DecodeError."""
    found = read(content)
    if isinstance(found, np.ndarray):
        return found.shape[1], found.shape[2]
    image = open_image(found)
    return _as_stored((image.height, image.width), orientation_of(image))


def decode(
    content: Content,
    channels: Literal[1, 3],
    size: tuple[int, int] | None = None,
    bits: int = 16,
    out: UInt8[np.ndarray, "channels height width"] | None = None,
) -> UInt8[np.ndarray, "{channels} _ _"]:
    """Returns upright 8-bit pixels, grey or RGB, fitted to a size (height, width).

    Grey is made of colour by ITU-R BT.601's weights (0.299, 0.587, 0.114), as PIL does. A JPEG file
    at least twice as large as `size` in both directions is decoded at the smallest scale (1/2, 1/4,
    1/8) that is no smaller than `size`.

    Args:
        bits: Of the 16 of a file that has so many: the lower ones that are read.
        out: The place of the pixels, which has room for `size`; None: a new one.

    Raises:
        DecodeError: It is no image, or a damaged one; with the reason.
        DeepPixelsError: It uses more bits than `bits`.
    """
    found = read(content)
    if isinstance(found, np.ndarray):
        pixels = found if len(found) == channels else _array(_plain(_image(found), channels))
        assert out is None, "pixels have a place already"
        return fit(pixels, size) if size else pixels
    if whole := plain_size(found):
        with suppress(ValueError):  # damaged: below it is said how
            picture, extent = _at_once(found, whole, size or whole)
            picture = _plain(picture, channels)
            return _array(_fitted(picture, size, extent) if size else picture, out)
    image = open_image(found)
    try:
        extent = _draft(image, size) if size and isinstance(image, JpegImageFile) else image.size
        image.load()
        orientation = orientation_of(image)
        made = _plain(image, channels, bits)
        if size:
            made = _fitted(made, _as_stored(size, orientation), extent)
        return _array(made.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else made, out)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # damaged content makes decoders raise whatever they like
        raise DecodeError(f"damaged ({error or type(error).__name__})") from None


def fit(image: UInt8[np.ndarray, "channels _ _"], size: tuple[int, int]) -> UInt8[np.ndarray, "channels height width"]:
    """Returns the image scaled to just cover `size` (height, width), cut to it at the centre.

    The filter is bilinear and antialiased: a triangle as wide as two pixels of the result, or two
    of the image where it grows. One number scales both directions, and no size in between is
    rounded, so that nothing shifts.
    """
    height, width = image.shape[1:]
    return image if (height, width) == size else _array(_fitted(_image(image), size, (width, height)))


def to_jpeg(image: UInt8[np.ndarray, "channels height width"], longest_px: int, quality: int = 95) -> bytes:
    """Returns a JPEG file of the image, made smaller where it is longer than `longest_px`."""
    picture = _image(image)
    scale = longest_px / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return _file(picture, "JPEG", quality=quality)


def to_png(image: UInt8[np.ndarray, "channels height width"]) -> bytes:
    """Returns a PNG file of exactly these pixels."""
    return _file(_image(image), "PNG")


def open_image(content: bytes) -> ImageFile.ImageFile:
    """Returns the image with its header read.

    Raises DecodeError where it is no image, or one too large.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        found = kind_named(content[:HEAD_BYTES]) or f"not an image (begins with {content[:12]!r})"
        raise DecodeError(found) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DecodeError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, at most {MOST_PIXELS:,} are read") from None
    except Exception as error:
        raise DecodeError(f"damaged ({error or type(error).__name__})") from None
    if image.width * image.height > MOST_PIXELS:
        raise DecodeError(f"{image.width:,} x {image.height:,} pixels, at most {MOST_PIXELS:,} are read")
    return image


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def _at_once(content: bytes, whole: tuple[int, int], size: tuple[int, int]) -> tuple[Image.Image, tuple[float, float]]:
    """Returns what PIL's decoder makes of a JPEG file whose header is known, as `_draft` has it.

    It is this thread's canvas, valid until the next file.
    """
    fits = min(whole[0] // size[0], whole[1] // size[1])
    scale = max(each for each in _SCALES if each <= max(1, fits))
    drafted = (-(-whole[1] // scale), -(-whole[0] // scale))
    if (canvas := _own.canvas) is None or canvas.size != drafted:
        canvas = Image.new("RGB", drafted, None)
        _own.canvas = canvas if math.prod(drafted) <= _KEPT_PIXELS else None
    canvas.frombytes(content, "jpeg", "RGB", "", scale, 0)
    return canvas, (whole[1] / scale, whole[0] / scale)


def _draft(image: JpegImageFile, size: tuple[int, int]) -> tuple[float, float]:
    """Sets the smallest scale of decoding that is enough for `size`.

    Returns the image's exact width and height at that scale.
    """
    height, width = _as_stored(size, orientation_of(image))
    drafted = image.draft(None, (width, height))
    return drafted[1][2:] if drafted else image.size


def _as_stored(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns height and width of an upright image before it was set upright."""
    return size[::-1] if orientation in _ON_ITS_SIDE else size


def orientation_of(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # sound pixels with damaged EXIF are no broken image
        return 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _plain(image: Image.Image, channels: Literal[1, 3], bits: int = 16) -> Image.Image:
    """Returns the image with 8 bits, grey or RGB."""
    if _is_deep(image):
        image = Image.fromarray(_eight_bits(image, bits))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    elif not _is_grey(image) and image.mode != "RGB":
        image = image.convert("RGB")  # PIL knows no direct way from some of them to grey
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, size: tuple[int, int], extent: tuple[float, float]) -> Image.Image:
    """Returns the image as `fit` does; `extent` (width, height) may end within the last pixels."""
    new_height, new_width = size
    width, height = extent
    if (height, width) == size:
        return image
    top = left = 0.0
    if new_width * height >= new_height * width:  # the width fits, the height is cut
        top = (height - new_height * width / new_width) / 2
    else:
        left = (width - new_width * height / new_height) / 2
    box = (left, top, width - left, height - top)
    return image.resize((new_width, new_height), Image.Resampling.BILINEAR, box=box)


def _eight_bits(image: Image.Image, bits: int) -> UInt8[np.ndarray, "height width"]:
    values, most = _deep_values(image), (1 << bits) - 1
    if (highest := int(values.max())) > most:
        raise DeepPixelsError(highest, most)
    return ((values.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)


def _deep_values(image: Image.Image) -> Integer[np.ndarray, "height width"]:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        found = "fractions" if image.mode == "F" else f"{values.min()} to {values.max()}"
        raise DecodeError(f"pixels are {found}, expected whole numbers of 8 or 16 bits")
    return values


def _array(
    image: Image.Image, out: UInt8[np.ndarray, "channels height width"] | None = None
) -> UInt8[np.ndarray, "channels height width"]:
    bands, size = image.getbands(), image.width * image.height
    planes = np.empty((len(bands), image.height, image.width), np.uint8) if out is None else out
    if size < _MANY_PIXELS:  # three calls to PIL take longer than to transpose pixels
        pixels = np.frombuffer(image.tobytes(), np.uint8)
        planes[...] = pixels.reshape(image.height, image.width, -1).transpose(2, 0, 1)
        return planes
    # Plane by plane, straight from PIL's pixels: 25 us for an image of 224 x 224; 45 by `split`.
    place = planes.reshape(-1).data
    for number, band in enumerate(bands):
        place[number * size : (number + 1) * size] = image.tobytes("raw", band)
    return planes


def _image(pixels: UInt8[np.ndarray, "channels height width"]) -> Image.Image:
    if len(pixels) not in (1, 3):
        raise DecodeError(f"{len(pixels)} channels, expected 1 or 3")
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _file(image: Image.Image, kind: str, **settings: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()
