"""The number of samples whose outputs of the teacher are in memory together."""

import math

from pipeline.labels.encodings import LabelSpace

_BYTES = 256 << 20  # of outputs in float32


def samples_at_once(space: LabelSpace, wanted: int) -> int:
    """Returns how many samples are labelled together: as many as wanted, but of a grid no more than
    256 MB of outputs, which some steps hold two or three times.

    An image of 512 x 512 has 22 MB of outputs for 21 classes, and one without positions 84 bytes.
    """
    if space.positions is None:
        return wanted
    return max(1, min(wanted, _BYTES // (4 * math.prod(space.output_shape))))


def samples_of_block(space: LabelSpace, wanted: int) -> int:
    """Returns the samples of a block of a store: as many as wanted, but of a grid a power of two
    that `samples_at_once` allows, which chunks of any size divide.
    """
    most = samples_at_once(space, wanted)
    return wanted if most == wanted else 1 << (most.bit_length() - 1)


def lowered_blocks(space: LabelSpace, wanted: int, num_samples: int) -> str | None:
    """Returns the line that blocks are smaller than the settings have it; None where they are
    not.
    """
    size = samples_of_block(space, wanted)
    if size >= min(wanted, num_samples):
        return None
    return f"dump_labels: blocks of {size:,} samples, not {wanted:,}: a block has at most {_BYTES >> 20} MB of outputs"
