"""A folder of text files with a folder for each class, laid out as the source `folder` has them."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.core.config import STRICT
from pipeline.data.input_kinds import InputKindName
from pipeline.preparation.sources.file_kinds import FileKind
from pipeline.preparation.sources.folder import Folder

_TEXT_FILES = FileKind("text", (".txt",))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextFolder(Folder):
    """The texts in class folders, each a file of UTF-8; settings are those of the source
    `folder`.
    """

    kind: ClassVar[str] = "text_folder"
    input_kind: ClassVar[InputKindName] = "tokens"

    @property
    def holds(self) -> FileKind:
        return _TEXT_FILES
