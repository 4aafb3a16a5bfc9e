"""Predicts the class of a text: `python predict.py TEXT|FILE|- [model_int8.onnx]`."""

# It needs onnxruntime, numpy and tokenizers, and nothing else.

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def main(text: str, file: str = "model.onnx") -> None:
    session = network(file)
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    tokenizer = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # As the texts were that it learned from: their first words, each of which is cut by itself.
    words = unicodedata.normalize("NFC", text).split()[: about["input_shape"][0]]
    if not words:
        sys.exit("the text has no words")
    words = [about["input"]["prefix"] + word for word in words]
    cut = tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
    tokens = [number + 1 for number in cut.ids][: about["input"]["max_tokens"]]  # 0 is no token
    show(about, session.run(["logits"], {"tokens": np.array([tokens or [0]], np.int64)})[0][0])


def network(file: str) -> onnxruntime.InferenceSession:
    """Returns the network in a file beside this script, or at a path."""
    found = [path for path in (Path(__file__).parent / file, Path(file)) if path.is_file()]
    if not found:
        beside = ", ".join(sorted(path.name for path in Path(__file__).parent.glob("*.onnx")))
        sys.exit(f"no file {file}; expected one of those beside this script: {beside}")
    return onnxruntime.InferenceSession(found[0])


def show(about: dict[str, Any], logits: np.ndarray) -> None:
    logits, names = logits.astype(np.float64), about["class_names"]
    if about.get("signal") == "binary":  # independent classes: every one, and * from one half on
        probs = 1 / (1 + np.exp(-logits))
        for index in np.argsort(-probs, kind="stable"):
            print(f"{probs[index]:7.2%} {'*' if probs[index] >= 0.5 else ' '} {names[index]}")
        return
    probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for index in probs.argsort()[::-1][:5]:
        print(f"{probs[index]:7.2%}  {names[index]}")


def read(text: str) -> str:
    """Returns the text of stdin, of a file, or of the argument itself."""
    if text == "-":
        return sys.stdin.read()
    try:
        return Path(text).read_text("utf-8-sig")
    except UnicodeDecodeError:
        sys.exit(f"{text}: not UTF-8")
    except (OSError, ValueError):  # no file's name
        if text.endswith(".txt") and len(text.split()) == 1:
            sys.exit(f"no file {text}")
        return text


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"no text; {__doc__}")
    main(read(sys.argv[1]), *sys.argv[2:3])
