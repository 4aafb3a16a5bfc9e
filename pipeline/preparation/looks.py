"""The looks at samples, by their kind."""

from pipeline.data.input_kinds import InputKindName
from pipeline.preparation.form import Look
from pipeline.preparation.pixels import PixelLook
from pipeline.preparation.rows import RowLook
from pipeline.preparation.sounds import SoundLook
from pipeline.preparation.texts import TextLook

LOOKS: dict[InputKindName, type[Look]] = {
    "image": PixelLook,
    "row": RowLook,
    "tokens": TextLook,
    "waveform": SoundLook,
}
