"""Fitted estimators on disk: files that hold no code, the same bytes for the same estimators.

A pickle runs whatever it names. skops' format names types, of which only those of the libraries of
estimators, and of the user's own file, are built. The one file that imports skops.

skops numbers objects by their place in memory and stamps its members with the time. Both are
replaced: numbers go by first appearance.
"""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import ModelError, repaired
from pipeline.core.files import write_bytes
from pipeline.models import user_file

#: The beginnings of the names of types that may be in a file.
_TRUSTED = ("sklearn.", "numpy.", "scipy.", "lightgbm.", "xgboost.", f"{user_file.MODULE}.")
_SCHEMA = "schema.json"
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def write_estimators(path: Path, content: Any, name: str) -> None:
    """Writes fitted estimators; raises ModelError where they keep what a file without code can't.

    Args:
        name: The model's name, for messages.
    """
    io_of_skops = _library(name)
    try:
        written = io_of_skops.dumps(content)
        foreign = _foreign(io_of_skops.get_untrusted_types(data=written))
    except Exception as error:  # skops' errors have no class in common
        fix = "keep numbers, arrays and scikit-learn's estimators alone"
        raise ModelError(f"model {name!r}", f"can't be written without pickle ({error})", fix=fix) from None
    if foreign:
        found = f"keeps an object of the type {foreign[0]}, which a file without code can't hold"
        raise ModelError(f"model {name!r}", found, expected=", ".join(_TRUSTED[:-1]))
    write_bytes(path, _plain(written))


def read_estimators(path: Path, name: str, own: Path | None) -> Any:
    """Returns what `write_estimators` wrote; nothing is unpickled.

    Raises ModelError where the file is none, or names a type of another library.

    Args:
        own: The copy of the user's file, whose types may be among them.
    """
    io_of_skops = _library(name)
    if own is not None:
        user_file.execute(name, own)  # its module is then known by its name
    try:
        data = path.read_bytes()
        untrusted = io_of_skops.get_untrusted_types(data=data)
        if foreign := _foreign(untrusted):
            raise ModelError(path, f"names the type {foreign[0]}", expected=", ".join(_TRUSTED[:-1]))
        return io_of_skops.loads(data, trusted=untrusted)
    except FileNotFoundError:
        raise ModelError(path, "no such file", fix=repaired("train_teacher")) from None
    except ModelError:
        raise
    except Exception as error:  # of zipfile, json or skops, or of a library of another version
        found = f"can't be read ({type(error).__name__}: {error})"
        raise ModelError(path, found, fix=repaired("train_teacher")) from None
    finally:
        if own is not None:
            sys.modules.pop(user_file.MODULE, None)


def count_numbers(path: Path) -> int:
    """Returns how many numbers are in the arrays of a file: about how large its estimators are."""
    count = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                array = np.load(io.BytesIO(archive.read(member)), allow_pickle=False)
                count += array.size * max(1, len(array.dtype.names or ()))
    return count


def _foreign(types: list[str]) -> list[str]:
    return [kind for kind in types if not kind.startswith(_TRUSTED)]


def _plain(written: bytes) -> bytes:
    """Returns a file of skops without places in memory and times."""
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        numbers: dict[int, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, numbers, files)
        members = {new: archive.read(old) for old, new in files.items()}
    members[_SCHEMA] = json.dumps(schema).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(member, _NO_TIME), content, zipfile.ZIP_DEFLATED, 6)
    return buffer.getvalue()


def _renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    """Numbers objects and files from 1 on, in the order in which a schema has them."""
    for value in node if isinstance(node, list) else node.values() if isinstance(node, dict) else ():
        _renumber(value, numbers, files)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("__id__"), int):
        node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
    if isinstance(node.get("file"), str):
        suffix = Path(node["file"]).suffix
        node["file"] = files.setdefault(node["file"], f"{len(files) + 1:06}{suffix}")


def _library(name: str) -> Any:
    try:
        import skops.io
    except ImportError as error:
        fix = "install the extra `tables` (`pip install -c constraints.txt .[tables]`)"
        raise ModelError(f"model {name!r}", f"skops can't be imported ({error})", fix=fix) from None
    return skops.io
