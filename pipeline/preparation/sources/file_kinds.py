"""The kinds of files that folders hold: images, and those that are known by their suffix alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.core.plain_files import odd_file
from pipeline.data.formats import IMAGE_SUFFIXES, is_image_name
from pipeline.preparation.sources.image_files import no_image
from pipeline.preparation.sources.walking import files_below, passed_over_as

_OTHER_SOUNDS = (".mp3", ".m4a", ".aac", ".wma", ".opus", ".aif", ".aiff", ".au", ".amr", ".webm", ".sph")


class Found(NamedTuple):
    """The samples at and below a folder as sorted paths relative to it, and what is left out, each
    with a remark.
    """

    names: list[str]
    left_out: list[tuple[str, str]]


@dataclass(frozen=True)
class FileKind:
    """The files that are taken from a folder, known by their suffixes.

    Attributes:
        thing: The name of a sample, for messages.
        suffixes: Those of its files, in small letters.
    """

    thing: str
    suffixes: tuple[str, ...]

    @property
    def things(self) -> str:
        return f"{self.thing}s"

    @property
    def a_thing(self) -> str:
        return f"{'an' if self.thing[0] in 'aeiou' else 'a'} {self.thing}"

    def is_name(self, name: str) -> bool:
        """Returns whether a file is one by its suffix."""
        return name.lower().endswith(self.suffixes)

    def why_not(self, folder: Path, name: str) -> str | None:
        """Returns the reason why a file is not taken; None where it is a sample."""
        if self.is_name(name):
            return None
        return odd_file(folder / name) or f"no {self.thing} by its name ({Path(name).suffix or 'no suffix'})"

    def left_out_as(self, folder: Path, name: str, leave_out: Sequence[str], *, is_folder: bool) -> str | None:
        """Returns a remark about what is left out; None for a sample, or a folder to look into."""
        if remark := passed_over_as(name, leave_out, is_folder=is_folder):
            return remark
        reason = None if is_folder else self.why_not(folder, name)
        return f"files left out: {reason}" if reason else None

    def files(self, folder: Path, leave_out: Sequence[str] = ()) -> Found:
        """Returns the samples at and below a folder.

        Raises SourceError for a link that leads nowhere or in a circle.

        Args:
            leave_out: Names of files and folders that are passed over, or patterns of names.
        """
        found = Found([], [])
        passed_over: list[tuple[str, str]] = []
        for name in files_below(folder, leave_out, passed_over):
            if reason := self.why_not(folder, name):
                found.left_out.append((f"files left out: {reason}", name))
            else:
                found.names.append(name)
        found.names.sort()
        found.left_out.extend(passed_over)
        return found


class _ImageFiles(FileKind):
    """A kind of files that are known by their first bytes, too: images."""

    def is_name(self, name: str) -> bool:
        return is_image_name(name)

    def why_not(self, folder: Path, name: str) -> str | None:
        return no_image(folder, name)


class _SoundFiles(FileKind):
    """The files of sounds; formats that are not read are told from what is no sound."""

    def why_not(self, folder: Path, name: str) -> str | None:
        reason, suffix = super().why_not(folder, name), Path(name).suffix.lower()
        if reason and suffix in _OTHER_SOUNDS:
            return f"a sound of a format that is not read; convert it to FLAC or WAV ({suffix})"
        return reason


SOUND_FILES: FileKind = _SoundFiles("sound", (".wav", ".flac", ".ogg"))
IMAGE_FILES: FileKind = _ImageFiles("image", IMAGE_SUFFIXES)
