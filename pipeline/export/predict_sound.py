"""Predicts the class of a sound: `python predict.py sound.wav [model_int8.onnx]`."""

# It needs onnxruntime, numpy and soundfile; scipy where a file has another rate than the network.

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile


def main(sound: str, file: str = "model.onnx") -> None:
    session = network(file)
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    samples = fit(read(sound, about["input"]["rate_hz"]), about["input_shape"][0], about["input"].get("crop"))
    show(about, session.run(["logits"], {"samples": samples[None]})[0][0])


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


def fit(samples: np.ndarray, length: int, crop: str | None) -> np.ndarray:
    """Returns a sound as long as those that the network knows: a part of it, or all and zeros."""
    spare = len(samples) - length
    if spare < 0:
        return np.pad(samples, (0, -spare))
    first = 0 if crop == "start" else spare // 2
    return samples[first : first + length]


def read(sound: str, rate_hz: int) -> np.ndarray:
    """Returns the samples of a file: the mean of its channels in 16 bits, at a rate."""
    try:
        with soundfile.SoundFile(sound) as file:
            rate, whole = file.samplerate, file.subtype.startswith(("PCM", "ALAW", "ULAW"))
            values = file.read(dtype="int32" if whole else "float64", always_2d=True)
    except soundfile.SoundFileError as error:
        sys.exit(f"{sound}: not a sound ({error})")
    if not len(values) or not np.isfinite(values).all():
        sys.exit(f"{sound}: {'has values that are no numbers' if len(values) else 'no samples'}")
    one = values.astype(np.int64).sum(axis=1) / (values.shape[1] << 16) if whole else values.mean(axis=1) * 32768
    if rate != rate_hz:
        try:
            from scipy.signal import resample_poly
        except ImportError:
            sys.exit(f"{sound}: {rate} Hz; expected {rate_hz} Hz, or scipy installed, which changes the rate")
        shared = math.gcd(rate, rate_hz)
        one = resample_poly(one, rate_hz // shared, rate // shared)
    samples: np.ndarray = np.clip(np.floor(one + 0.5), -32768, 32767).astype(np.int16)
    return samples


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit(f"no sound {' '.join(sys.argv[1:2])}; {__doc__}")
    main(*sys.argv[1:3])
