"""The kinds of inputs: what the numbers of a sample are, and what a sample is called.

Between the edges of the pipeline nothing asks for a kind. A new one starts with a place in
`INPUT_KINDS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

InputKindName = Literal["image", "tokens", "waveform", "row"]

#: Numbers of words in a text: nothing behind its end, a word that is hidden, the first word.
PAD, MASKED, FIRST_WORD = 0, 1, 2


@dataclass(frozen=True)
class InputKind:
    """A kind of input.

    Attributes:
        dtype: Of its numbers, in memory and on disk.
        thing: The name of a sample, for messages; `things` of several.
        array: The name of the array that holds the samples of a split.
        usual: A number that a sample may be full of.
        tolerance: How far the numbers of a view may be from those that the teacher saw.
    """

    name: InputKindName
    dtype: np.dtype[Any]
    thing: str
    things: str
    array: str = "inputs"
    usual: int = 0
    tolerance: int = 0

    def blank(self, shape: Sequence[int], count: int = 1) -> np.ndarray:
        """Returns samples that any network takes, [count, *shape], to see what it makes of them."""
        return np.full((count, *shape), self.usual, self.dtype)


#: What rounding in another library may do to pixels, and far less than a shift by one of them.
_ROUNDED_LEVELS = 2

IMAGE = InputKind("image", np.dtype(np.uint8), "image", "images", array="images", tolerance=_ROUNDED_LEVELS)
TOKENS = InputKind("tokens", np.dtype(np.int32), "text", "texts", usual=FIRST_WORD)
WAVEFORM = InputKind("waveform", np.dtype(np.int16), "sound", "sounds")
ROW = InputKind("row", np.dtype(np.int32), "row", "rows")

INPUT_KINDS: dict[InputKindName, InputKind] = {kind.name: kind for kind in (IMAGE, TOKENS, WAVEFORM, ROW)}
