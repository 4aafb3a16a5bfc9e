"""Images whose pixels are numbers, not levels of light: grey files and those with a palette."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from pipeline.data.decoding import UPRIGHT, open_image, orientation_of
from pipeline.data.file_content import Content, DecodeError, read

_FORMATS = ("PNG", "BMP", "GIF", "TIFF")
_BITS, _INTERPRETATION = 258, 262  # of a TIFF file
_SPREAD = {2: 85, 4: 17}  # PIL spreads grey levels of fewer bits over 0 to 255


def decode_numbers(content: Content) -> UInt8[np.ndarray, "height width"]:
    """Returns the number of each pixel, upright: its grey level, or its place in the palette.

    Raises DecodeError where the file is damaged, or its pixels are no such numbers.
    """
    found = read(content)
    if isinstance(found, np.ndarray):
        numbers: UInt8[np.ndarray, "height width"] = found[0]
        return numbers
    image = open_image(found)
    if image.format not in _FORMATS:
        raise DecodeError(f"a {image.format} file, which may change numbers; expected PNG, BMP, GIF or TIFF")
    if image.mode not in ("1", "L", "P"):
        raise DecodeError(f"pixels of {_described(image.mode)}, expected one number below 256 (grey or palette)")
    step = _step(image, found)
    try:
        image.load()
        way = UPRIGHT.get(orientation_of(image))
        return np.asarray(image if way is None else image.transpose(way)).astype(np.uint8) // np.uint8(step)
    except MemoryError:
        raise
    except Exception as error:  # damaged content makes decoders raise whatever they like
        raise DecodeError(f"damaged ({error or type(error).__name__})") from None


def _described(mode: str) -> str:
    return "16 or 32 bits" if mode.startswith(("I", "F")) else mode


def _step(image: ImageFile.ImageFile, content: bytes) -> int:
    """Returns what PIL multiplies the numbers of a grey file by.

    Raises DecodeError for a kind of TIFF whose numbers PIL changes in another way.
    """
    if image.format == "PNG" and image.mode == "L":
        return _SPREAD.get(content[24], 1)  # the bits of a pixel, in the file's header
    if image.format == "TIFF" and image.mode != "P":
        tags: Image.Exif | dict[int, object] = getattr(image, "tag_v2", {})
        if tags.get(_BITS) != (8,) or tags.get(_INTERPRETATION) == 0:
            raise DecodeError("a TIFF file of fewer than 8 bits, or in which 0 is white; expected 8 bits, 0 is black")
    return 1
