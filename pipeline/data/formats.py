"""Image files by their names and first bytes: those that are read, those that are not, and others.

PIL reads the first kind. The others are named, so that a message says what a file is.
"""

import re

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"),
    *(".jfif", ".jpe", ".apng", ".dib", ".pgm", ".pbm", ".pnm"),
)

HEAD_BYTES = 264  # DICOM's mark ends at byte 132, and `<svg` may stand a line below

_READ = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{4}\0\0\0\0",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II\*\0|MM\0\*",
    "PPM": rb"P[1-6]\s+[#\d]",
}
#: Camera files and microscope slides begin like TIFF, but PIL would read a small preview of them.
PREVIEW_SUFFIXES = frozenset({
    *(".nef", ".nrw", ".cr2", ".cr3", ".arw", ".srf", ".sr2", ".dng", ".orf", ".rw2", ".pef", ".raf", ".raw"),
    *(".3fr", ".erf", ".kdc", ".dcr", ".iiq", ".svs", ".ndpi", ".scn"),
})  # fmt: skip
_NOT_READ = {
    "HEIC": rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)",
    "AVIF": rb".{4}ftypavi[fs]",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "Photoshop": rb"8BPS",
    "DICOM": rb".{128}DICM",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "PDF": rb"%PDF-",
    "PostScript": rb"%!PS",
    "SVG": rb"\s*(?:<\?xml.*)?<svg",
}
_OTHERS = {
    "a Git LFS pointer (`git lfs pull` fetches the file)": rb"version https://git-lfs",
    "a web page": rb"\s*<(?:!doctype html|html)",
    "a ZIP file": rb"PK\x03\x04",
    "a gzip file": rb"\x1f\x8b",
}


def is_image_name(name: str) -> bool:
    """Returns whether a file is an image by its suffix."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_read(head: bytes) -> bool:
    """Returns whether a file that begins like this is an image of a format that is read."""
    return any(re.match(pattern, head, re.DOTALL) for pattern in _READ.values())


def kind_named(head: bytes) -> str | None:
    """Returns the kind of a file that is not read, by its first bytes; None where it is unknown."""
    for name, pattern in _NOT_READ.items():
        if re.match(pattern, head, re.DOTALL):
            return f"{name}, which is not read; convert it to PNG or JPEG"
    for name, pattern in _OTHERS.items():
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return f"{name}, not an image"
    return None
