"""Sheets of tiles, and maps drawn over images."""

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.data.decoding import fit, to_png

COLUMNS = 32
LARGEST_PX = 96  # of a tile; one more pixel in either direction costs every sample

# Everybody can distinguish orange from blue.
_FOR = np.array([230, 97, 1])
_AGAINST = np.array([33, 102, 172])
_COVER = 0.85  # the share of the image that a map's strongest place hides
_DARKEST, _BRIGHTEST = 48, 208  # of the image under the map: on black or white, colours would be lost


class TileSheet:
    """A sheet of images of one size, `COLUMNS` in a row; each is known by its number."""

    def __init__(self, height: int, width: int) -> None:
        scale = min(1.0, LARGEST_PX / max(height, width))
        #: Height and width of a tile: those of the images, or less where these are larger than
        #: `LARGEST_PX`.
        self.tile_px = (max(1, round(height * scale)), max(1, round(width * scale)))
        self._tiles: list[UInt8[np.ndarray, "channels _ _"]] = []

    def __len__(self) -> int:
        return len(self._tiles)

    def add(self, image: UInt8[np.ndarray, "channels height width"]) -> int:
        """Puts an image on the sheet and returns its number."""
        self._tiles.append(fit(image, self.tile_px))
        return len(self._tiles) - 1

    def png(self) -> bytes:
        """Returns the sheet as a file; the rest of the last row is black."""
        height, width = self.tile_px
        channels = len(self._tiles[0]) if self._tiles else 1
        num_rows = max(1, -(-len(self._tiles) // COLUMNS))
        sheet = np.zeros((channels, num_rows * height, COLUMNS * width), dtype=np.uint8)
        for number, tile in enumerate(self._tiles):
            top, left = number // COLUMNS * height, number % COLUMNS * width
            sheet[:, top : top + height, left : left + width] = tile
        return to_png(sheet)


def draw_map(
    image: UInt8[np.ndarray, "channels height width"], attribution: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "3 height width"]:
    """Returns the image in grey with the map over it: orange where a pixel speaks for the class,
    blue where against.

    The colour is the stronger, the more the pixel counts.
    """
    strongest = np.abs(attribution).max()
    share = _COVER * np.abs(attribution) / strongest if strongest else np.zeros(attribution.shape)
    grey = _DARKEST + (_BRIGHTEST - _DARKEST) * image.mean(axis=0) / 255
    colours = np.where(attribution > 0, _FOR[:, None, None], _AGAINST[:, None, None])
    drawn: np.ndarray = np.rint((1 - share) * grey + share * colours).astype(np.uint8)
    return drawn
