"""The split that the name of a folder, a file or a cell names, in any usual form."""

import re

from pipeline.core.errors import SourceError, suggest

SPLITS = ("train", "val", "test")

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "t10k"), "test"),  # t10k: as MNIST has it
}
USUAL = ("train", "val", "valid", "validation", "test")  # for messages
#: Images that a competition wants predictions of: they have no labels.
_TO_PREDICT = {"pred", "predict", "prediction", "predictions"}
_FILLERS = {"set", "data", "images", "split", "the"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ENDS = re.compile(r"(?<=.)(sets?|data|images?|imgs?|splits?|files?|folder)$")


def splits_in(name: str) -> set[str]:
    """Returns the splits in a name's words: `seg_train`, `Training`, `TestSet`, `val2017`."""
    words = _words(name)
    return {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}


def is_split_name(name: str) -> bool:
    """Returns whether a name is no more than a split's: `Test_Set`, not `test_tube`."""
    words = [word for word in _words(name) if word not in _FILLERS]
    return bool(words) and len(splits_in(name)) == 1 and set(words) <= set(SPLIT_NAMES)


def is_to_predict(name: str) -> bool:
    """Returns whether a name is that of images to predict: `seg_pred`."""
    return bool(set(_words(name)) & _TO_PREDICT)


def split_named(name: str, where: object) -> str:
    """Returns the split that a name stands for; raises SourceError when it is none, or several."""
    named = splits_in(name)
    if len(named) != 1:
        raise SourceError(where, f"unknown split name {name!r}", expected=suggest(name.lower(), USUAL))
    return named.pop()


def _words(name: str) -> list[str]:
    words = re.findall(r"t10k", name.lower()) or [word.lower() for word in _WORD.findall(name)]
    return [word if word in SPLIT_NAMES else _ENDS.sub("", word) for word in words]
