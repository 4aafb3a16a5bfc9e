"""The exception tree: a mistake that a user can fix is a `PipelineError`, reported in one line.

Everything else (a bug, an invariant that does not hold) keeps its traceback.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class PipelineError(Exception):
    """A mistake or a fault that a user can fix: where, what was found, what was expected, what to
    do.
    """

    def __init__(self, where: object, found: str, *, expected: str = "", fix: str = "") -> None:
        parts = [f"{where}: {found}"]
        if expected:
            parts.append(f"expected {expected}")
        if fix:
            parts.append(fix)
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


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


_MOST_NAMES = 200


def suggest(name: str, known: list[str]) -> str:
    """Returns the known names (of very many, some).

    The nearest one is added if `name` looks like a misspelling of it.
    """
    near = get_close_matches(name, known, n=1)
    few = known if len(known) <= _MOST_NAMES else [*known[:5], f"... ({len(known):,} in all)"]
    listing = ", ".join(few)
    return f"one of: {listing}" + (f" (did you mean {near[0]!r}?)" if near else "")


_AGAIN = "then run the same command to go on"
_LOST = "run `dvc repro` for the stage that makes it"
_FIXS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"free space, {_AGAIN}"),
    errno.EFBIG: f"raise the limit on file sizes (`ulimit -f`), {_AGAIN}",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), f"fix the rights, {_AGAIN}"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), _LOST),
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one clear line and a non-zero status where the fault is not in the
    code.
    """
    try:
        yield
    except PipelineError as error:
        _stop(f"error: {error}", 1)
    except KeyboardInterrupt:
        _stop("interrupted: finished work is kept, run the same command to go on", 130)
    except OSError as error:
        if error.errno not in _FIXS:
            raise
        _stop(f"error: {error.filename or 'disk'}: {error.strerror}; {_FIXS[error.errno]}", 1)
    except RuntimeError as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            _stop(f"error: torch.compile: {str(error).splitlines()[0]}; set compile: false in params.yaml", 1)
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which this file does not import
            raise
        _stop(f"error: device memory: {str(error).splitlines()[0]}; lower batch_size in params.yaml", 1)
    except MemoryError:
        _stop("error: memory: none left; expected room for one batch; lower batch_size in params.yaml", 1)


def _stop(line: str, status: int) -> None:
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(status)
