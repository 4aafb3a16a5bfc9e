"""The header of a JPEG file that holds nothing but a picture.

PIL reads every marker by Python, with Python's lock held: as long as decoding 32 x 32 pixels takes.
Of threads that decode images of 224 x 224, that is what they wait for.
"""

_MOST_BYTES = 1 << 16  # of the header
_MOST_PIXELS = 1 << 24
_SKIPPED = frozenset({0xE0, 0xFE, 0xDB, 0xC4, 0xDD})  # JFIF, comments, tables
_FRAMES, _SCAN = (0xC0, 0xC2), 0xDA  # baseline and progressive


def plain_size(content: bytes) -> tuple[int, int] | None:
    """Returns height and width of a JPEG file of three channels with 8 bits; None for any other
    file, and for one whose header has more (EXIF, a profile, Adobe's transform).

    References:
        ITU-T T.81, "Digital compression and coding of continuous-tone still images", 1992, annex B.
    """
    if content[:2] != b"\xff\xd8":
        return None
    place, size, end = 2, None, min(len(content), _MOST_BYTES)
    while place + 9 < end and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == _SCAN:
            return size
        if marker in _FRAMES and size is None:
            bits, height, width, channels = (
                content[place + 4],
                content[place + 5] << 8 | content[place + 6],
                content[place + 7] << 8 | content[place + 8],
                content[place + 9],
            )
            if bits != 8 or channels != 3 or not 0 < height * width <= _MOST_PIXELS:
                return None
            size = height, width
        elif marker not in _SKIPPED:
            return None
        place += 2 + (content[place + 2] << 8 | content[place + 3])
    return None
