"""The exception tree: a mistake that a user can fix is a `PipelineError`, reported in one line.

Everything else (a bug, an invariant that does not hold) keeps its traceback.
"""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from pipeline.core.extras import missing_line
from pipeline.core.shortage import fullest_folder, is_out_of_memory, memory_line
from pipeline.core.stopping import Stopped, interrupts
from pipeline.core.text import shown

MOST_SIGNS = 490  # of a message: with `error:` before it a line has at most 500
_MOST_OF_A_LIST = 150
_CUT = " ... "
_MOST_OF_A_WORD, _SHORT = 120, 40


class PipelineError(Exception):
    """A mistake or a fault that a user can fix: where, what was found, what was expected, what to
    do.

    A message is one line of at most MOST_SIGNS characters, whatever it quotes; a path in it may be
    longer than the 40 characters that it counts as.
    """

    def __init__(self, where: object, found: str, *, expected: str = "", fix: str = "") -> None:
        parts = [str(where), found, f"expected {expected}" if expected else "", fix]
        place, *rest = _fitted([shown(" ".join(part.split())) for part in parts])
        super().__init__(f"{place}: {'; '.join(part for part in rest if part)}")


def _fitted(parts: Sequence[str], signs: int = MOST_SIGNS) -> list[str]:
    """Returns the parts of a message, cut in the middle where it would be too long: first its
    words, of which the longest are paths, then its parts.
    """
    room = signs - 2 * (len(parts) - 1)
    if sum(map(len, parts)) <= room:
        return list(parts)
    parts = [" ".join(shortened(word, _MOST_OF_A_WORD) for word in part.split(" ")) for part in parts]
    lengths = [_length(part) for part in parts]
    most = next((most for most in range(room, 0, -1) if sum(min(length, most) for length in lengths) <= room), 0)
    return [part if length <= most else shortened(part, most) for part, length in zip(parts, lengths, strict=True)]


def _length(part: str) -> int:
    """Returns the characters of a part, in which a path counts as a short one."""
    return sum(min(len(word), _SHORT) + 1 for word in part.split(" ")) - 1


def shortened(text: str, most: int) -> str:
    """Returns a text of at most so many characters: the middle of a longer one is left out."""
    if len(text) <= most:
        return text
    cut = _CUT if " " in text else _CUT.strip()
    head = (most - len(cut)) // 2
    return f"{text[:head]}{cut}{text[len(text) - (most - len(cut) - head) :]}"


class ConfigError(PipelineError):
    """An error in `params.yaml`: it asks for something that does not exist or does not fit."""


class SourceError(PipelineError):
    """An error of raw images: they can't be had, or are not what they should be."""


class DataError(PipelineError):
    """An error of `data/prepare`: it is missing, damaged or does not fit the request."""


class StoreError(PipelineError):
    """A soft-label store is missing, damaged, incomplete or made for other data."""


class ModelError(PipelineError):
    """A network or its weights do not fit, or its outputs are not finite."""


class VerificationError(PipelineError):
    """A difference between stored labels and those that the teacher predicts now."""


@contextmanager
def placed(where: object) -> Iterator[None]:
    """Puts a place in front of errors that do not name it; an empty one changes nothing."""
    try:
        yield
    except PipelineError as error:
        if not str(where) or str(where) in str(error):
            raise
        raise type(error)(where, str(error)) from error


def listed(names: Sequence[str], most: int = _MOST_OF_A_LIST) -> str:
    """Returns names as a list of about so many characters: of more names, the first ones and how
    many there are.
    """
    fitting, length = 0, 0
    for name in names:
        length += len(name) + 2
        if length > most + 2:
            break
        fitting += 1
    few = [*names[:fitting]] or [shortened(name, most) for name in names[:1]]
    return ", ".join(few if len(few) == len(names) else [*few, f"... ({len(names):,} in all)"])


def suggest(name: str, known: Sequence[str]) -> str:
    """Returns the known names (of many, some).

    The nearest one is added if `name` looks like a misspelling of it.
    """
    near = get_close_matches(name, known, n=1)
    return f"one of: {listed(known)}" + (f" (did you mean {near[0]!r}?)" if near else "")


def repaired(made_by: str = "") -> str:
    """Returns what to do about a damaged file of an output, of whatever stage.

    To delete it is not enough, nor `dvc checkout`: DVC's copy is often the same file (a hard link).
    """
    return f"run `potstill repair`, then `{f'dvc repro {made_by}'.strip()}`"


_AGAIN = "then run the same command to go on"
_LOST = "run `dvc repro` for the stage that makes it"
_FAILING = f"see to the disk, or to the connection to it, {_AGAIN}"
_FIXS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"free space, {_AGAIN}"),
    errno.EFBIG: f"raise the limit on file sizes (`ulimit -f`), {_AGAIN}",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), f"fix the rights, {_AGAIN}"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), _LOST),
    **dict.fromkeys((errno.EEXIST, errno.ELOOP), f"a link to nowhere, or no folder: correct or delete it, {_AGAIN}"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN), _FAILING),
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one clear line and a non-zero status where the fault is not in the
    code.
    """
    try:
        with interrupts():
            yield
    except PipelineError as error:
        _stop(f"error: {error}", 1)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped()
        _stop(stopped.line, stopped.status)
    except OSError as error:
        if error.errno not in _FIXS:
            raise
        found = error.strerror
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            found = f"{found} ({fullest_folder()})"
        _stop(f"error: {error.filename or 'disk'}: {found}; {_FIXS[error.errno]}", 1)
    except RuntimeError as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            _stop(f"error: torch.compile: {str(error).splitlines()[0]}; set compile: false in params.yaml", 1)
        if not is_out_of_memory(error):
            raise
        _stop(f"error: {memory_line(error)}", 1)
    except ModuleNotFoundError as error:
        if (line := missing_line(error)) is None:
            raise
        _stop(f"error: {line}", 1)
    except MemoryError as error:
        _stop(f"error: {memory_line(error)}", 1)


def _stop(line: str, status: int) -> None:
    print(*_fitted([shown(line)], MOST_SIGNS + 10), file=sys.stderr, flush=True)
    raise SystemExit(status)
