"""Mean and standard deviation of each channel, counted exactly."""

import numpy as np
from jaxtyping import Int64, UInt8

_FEW_BITS = 6  # sound images go higher than these allow: 63 is a quarter of white
_COUNTED_AT_ONCE = 4096  # images: counting takes 8 bytes a pixel


def channel_statistics(
    images: UInt8[np.ndarray, "samples channels height width"],
) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each channel, in units of 255 pixel levels.

    They are exact counts of levels, so they are the same on every machine.
    """
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), _COUNTED_AT_ONCE):
        counts += count_levels(images[start : start + _COUNTED_AT_ONCE])
    return statistics_of(counts)


def count_levels(images: UInt8[np.ndarray, "samples channels height width"]) -> Int64[np.ndarray, "channels 256"]:
    """Returns how often each pixel level is there, by channel."""
    return np.stack(
        [np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(images.shape[1])]
    ).astype(np.int64, copy=False)


def statistics_of(counts: Int64[np.ndarray, "channels 256"]) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each channel from counted levels, as
    `channel_statistics` does.
    """
    levels = np.arange(256, dtype=np.float64) / 255
    mean: list[float] = []
    std: list[float] = []
    for share in counts / counts[:1].sum():
        mean.append(float(share @ levels))
        std.append(max(float(np.sqrt(share @ (levels - mean[-1]) ** 2)), 1e-3))  # images of one level divide by it
    return mean, std


def values_line(counts: Int64[np.ndarray, "channels 256"]) -> str:
    """Returns a line about the range of counted levels, with a remark where few bits are used.

    Such images are nearly black: labels of pixels in place of images, values from 0 to 1, or 12
    bits in a file of 16 of which only the upper 8 were read.
    """
    if not len(counts):
        return ""  # samples are no images
    used = np.flatnonzero(counts.sum(axis=0))
    lowest, highest = int(used[0]), int(used[-1])
    line = f"values: {lowest} to {highest} (black is 0, white is 255)"
    if lowest == highest:
        return f"{line}; every pixel is the same: check the images"
    bits = highest.bit_length()
    return f"{line}; only {bits} of 8 bits are used: check the images" if bits <= _FEW_BITS else line
