"""A folder of sounds (wav, flac, ogg) with a folder for each class, as `folder` has images."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.preparation.sources.file_kinds import SOUND_FILES, FileKind
from pipeline.preparation.sources.folder import Folder
from pipeline.preparation.sources.sound_windows import SoundSource, WindowSeconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SoundFolder(SoundSource, Folder):
    """The sounds in class folders, in the order of their names."""

    window_seconds: WindowSeconds = None

    kind: ClassVar[str] = "sound_folder"

    @property
    def holds(self) -> FileKind:
        return SOUND_FILES
