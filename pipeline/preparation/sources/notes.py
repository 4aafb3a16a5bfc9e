"""Notes of what a source met among its files: what it left out, and how it read the rest.

They are printed before anything is made of the images, by the stage and by the doctor.
"""

from dataclasses import dataclass, field

_MOST_LINES = 8
_MOST_SIGNS = 90  # of an example


@dataclass
class Notes:
    """A count of every remark, with its first example.

    A source adds to it in the one pass that `class_names` makes, so that each file counts once.
    """

    _found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, remark: str, example: object, count: int = 1) -> None:
        """Counts what a remark is about; it reads `<count> <remark>, e.g. '<example>'`.

        For example: "files left out: no image by its name (.txt)".
        """
        before, first = self._found.get(remark, (0, str(example)))
        self._found[remark] = (before + count, first)

    def mention(self, reason: str) -> bool:
        """Returns whether a remark ends with a reason."""
        return any(remark.endswith(reason) for remark in self._found)

    def lines(self) -> list[str]:
        """Returns a line for each remark, the most frequent first; of very many, some."""
        found = sorted(self._found.items(), key=lambda item: -item[1][0])
        lines = [f"{count:,} {remark}, e.g. {_short(first)!r}" for remark, (count, first) in found]
        more = len(lines) - _MOST_LINES
        return lines if more <= 0 else [*lines[:_MOST_LINES], f"{more:,} more kinds of remarks like these"]


def _short(example: str) -> str:
    """Returns an example, the beginning of a long one left out: the end names the file."""
    return example if len(example) <= _MOST_SIGNS else f"...{example[-_MOST_SIGNS:]}"
