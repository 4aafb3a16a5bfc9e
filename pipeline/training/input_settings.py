"""The key `input` of a network: the form in which it takes its inputs."""

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.core.bounds import Pixels
from pipeline.core.config import STRICT
from pipeline.core.errors import ConfigError
from pipeline.data.input_kinds import INPUT_KINDS, InputKindName


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InputSettings:
    """The inputs that a network wants.

    What is not given is as its weights were made for, or as the data is.

    Attributes:
        size_px: Of images, as `mean` and `std`.
        mels: Of sounds: the bands of its spectra; `window_ms` and `hop_ms` are its frames.
        tokenizer: Of texts: the network's own tokenizer.json; None: that of the data.
        max_tokens: Texts are cut to so many tokens.
    """

    size_px: Pixels | tuple[Pixels, Pixels] | None = None
    mean: tuple[Annotated[float, Field(ge=-1000, le=1000)], ...] | None = None
    std: tuple[Annotated[float, Field(gt=0, ge=1e-6, le=1000)], ...] | None = None
    mels: Annotated[int, Field(ge=4, le=256)] | None = None
    window_ms: Annotated[float, Field(ge=1, le=1000)] | None = None
    hop_ms: Annotated[float, Field(ge=1, le=1000)] | None = None
    tokenizer: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1 << 20)] | None = None

    def of_kind(self, kind: InputKindName, where: str) -> dict[str, Any] | None:
        """Returns the settings for a kind of inputs that is not images, None for images.

        Raises ConfigError where some are for another kind.
        """
        given = {key: value for key, value in asdict(self).items() if value is not None}
        if foreign := [key for key in given if key not in _KEYS[kind]]:
            expected = ", ".join(_KEYS[kind]) or "null"
            found = f"given, and the data is {INPUT_KINDS[kind].things}"
            raise ConfigError(f"{where}.{foreign[0]}", found, expected=f"of its keys only {expected}")
        return None if kind == "image" else {key: value for key, value in given.items() if key != "tokenizer"}


#: The keys of `input` that mean something, by the kind of inputs.
_KEYS: dict[InputKindName, tuple[str, ...]] = {
    "image": ("size_px", "mean", "std"),
    "waveform": ("mels", "window_ms", "hop_ms"),
    "tokens": ("tokenizer", "max_tokens"),
    "row": (),
}
