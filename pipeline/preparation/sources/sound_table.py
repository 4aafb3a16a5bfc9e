"""A table of sounds: CSV, TSV, JSON lines or Parquet, a row per sound with path and label."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.preparation.sources.file_table import FileTable
from pipeline.preparation.sources.sound_windows import SoundSource, WindowSeconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SoundTable(SoundSource, FileTable):
    """The sounds of a table, in its order; labels and splits are read as `manifest` reads them."""

    sound_column: str = "path"
    window_seconds: WindowSeconds = None

    kind: ClassVar[str] = "sound_manifest"

    def files(self) -> Iterator[str]:
        yield from super().files()
        for sound in FileTable.images(self, Path()):
            yield str(sound.content)

    @property
    def content_columns(self) -> tuple[str, ...]:
        return (self.sound_column,)
