"""The operations that views are made of: one file each, or one for a small family.

An operation is a frozen dataclass of settings. It turns random words into whole numbers, and these
into the numbers of samples: whole 8-bit numbers again, where samples are images. A new one is a
file here and a name in the table below.

    base.py          Operation, SampleOperation and ImageOperation; blending, chances
    colour.py        brightness, contrast, saturation: an image blended with another one by a factor
    columns.py       columns of rows: dropped, or swapped with the partner's
    cutmix.py        a rectangle of the partner over the image
    erasing.py       a random rectangle is covered
    flips.py         left to right, or upside down
    mixing.py        Mixing: what operations on two samples have in common: shares and partners
    mixup.py         the weighted mean of two images
    pad_crop.py      a shift by some pixels
    rectangles.py    random rectangles in whole numbers
    resized_crop.py  a random rectangle, stretched to the size of the image
    words.py         the words of a text: a window, some left out, hidden or swapped

On sounds:

    frequency_mask.py  a band of frequencies is taken out
    gain.py          louder or softer
    noise.py         white noise at a ratio of powers
    sound_mix.py     the weighted mean of two sounds
    sound_shift.py   a shift in time
    time_mask.py     a stretch is silenced
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import NoReturn

from pydantic import TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline.core.errors import suggest
from pipeline.views.operations.base import Operation
from pipeline.views.operations.colour import Brightness, Contrast, Saturation
from pipeline.views.operations.columns import DropColumns, SwapColumns
from pipeline.views.operations.cutmix import CutMix
from pipeline.views.operations.erasing import Erasing
from pipeline.views.operations.flips import FlipHorizontal, FlipVertical
from pipeline.views.operations.frequency_mask import FrequencyMask
from pipeline.views.operations.gain import Gain
from pipeline.views.operations.mixup import Mixup
from pipeline.views.operations.noise import Noise
from pipeline.views.operations.pad_crop import PadCrop
from pipeline.views.operations.resized_crop import ResizedCrop
from pipeline.views.operations.sound_mix import SoundMix
from pipeline.views.operations.sound_shift import Shift
from pipeline.views.operations.time_mask import TimeMask
from pipeline.views.operations.words import DropWords, MaskWords, SwapWords, WindowWords

OPERATIONS: dict[str, type[Operation]] = {
    cls.kind: cls
    for cls in (
        PadCrop,
        ResizedCrop,
        FlipHorizontal,
        FlipVertical,
        Brightness,
        Contrast,
        Saturation,
        Erasing,
        Mixup,
        CutMix,
        DropColumns,
        SwapColumns,
        WindowWords,
        DropWords,
        MaskWords,
        SwapWords,
        Shift,
        Gain,
        TimeMask,
        FrequencyMask,
        Noise,
        SoundMix,
    )
}


def parse_operation(row: object) -> Operation:
    """Returns the operation that a row `{kind: <name above>, ...settings}` names.

    Raises pydantic's ValidationError, so that it can stand in a field's annotation.
    """
    if isinstance(row, Operation):
        return row
    kind = row.get("kind") if isinstance(row, Mapping) else row
    if not isinstance(row, Mapping) or str(kind) not in OPERATIONS:
        _refuse("kind", kind, suggest(str(kind), list(OPERATIONS)))
    operation = OPERATIONS[str(kind)]
    known = [field.name for field in fields(operation)]  # type: ignore[arg-type]
    for name in row:
        if name not in known:
            _refuse(name, row[name], suggest(name, known))
    return TypeAdapter(operation).validate_json(json.dumps(dict(row)), strict=True)


def _refuse(name: str, value: object, expected: str) -> NoReturn:
    fault = PydanticCustomError("operation", "{expected}", {"expected": expected})
    raise ValidationError.from_exception_data("operation", [InitErrorDetails(type=fault, loc=(name,), input=value)])
