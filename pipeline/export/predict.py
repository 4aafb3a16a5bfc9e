"""Predicts what an image shows: `python predict.py image.jpg [model_int8.onnx]`."""

# It needs onnxruntime, numpy and Pillow, and nothing else.

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(image: str, file: str = "model.onnx") -> None:
    session = network(file)
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    channels, height, width = about["image_shape"]
    try:
        with Image.open(image) as opened:
            picture = ImageOps.exif_transpose(opened)  # from here as the images were that it learned from
    except (OSError, ValueError, SyntaxError) as error:
        sys.exit(f"{image}: not an image, or a damaged one ({error})")
    if picture.mode.startswith("I"):  # 16 bits
        picture = Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    picture = picture.convert("L" if channels == 1 else "RGB")
    picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture).reshape(1, height, width, channels).transpose(0, 3, 1, 2)
    logits = session.run(["logits"], {"pixels": pixels})[0][0]
    if about.get("signal") == "binary":  # independent classes: every one, and * from one half on
        probs = 1 / (1 + np.exp(-logits.astype(np.float64)))
        for index in np.argsort(-probs, kind="stable"):
            print(f"{probs[index]:7.2%} {'*' if probs[index] >= 0.5 else ' '} {about['class_names'][index]}")
        return
    if about.get("signal") == "grid":  # a class at each pixel: its share of the picture, and a map of them
        shares = np.bincount((classes := logits.argmax(axis=0)).ravel(), minlength=len(logits)) / classes.size
        for index in np.argsort(-shares, kind="stable")[: np.count_nonzero(shares)]:
            print(f"{shares[index]:7.2%}  {about['class_names'][index]}")
        drawn = Image.fromarray(classes.astype(np.uint8 if len(logits) <= 256 else np.uint16))
        if len(logits) <= 256:
            drawn.putpalette((np.arange(256)[:, None] * (83, 149, 211) % 256).astype(np.uint8).tobytes())
        drawn.save(target := Path(f"{Path(image).stem}_classes.png"))  # here: beside the image it would be another one
        print(f"{target}: the number of the class at each pixel, {width} x {height}")
        return
    probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for index in probs.argsort()[::-1][:5]:
        print(f"{probs[index]:7.2%}  {about['class_names'][index]}")


def network(file: str) -> onnxruntime.InferenceSession:
    """Returns the network in a file beside this script, or at a path."""
    found = [path for path in (Path(__file__).parent / file, Path(file)) if path.is_file()]
    if not found:
        beside = ", ".join(sorted(path.name for path in Path(__file__).parent.glob("*.onnx")))
        sys.exit(f"no file {file}; expected one of those beside this script: {beside}")
    return onnxruntime.InferenceSession(found[0])


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit(f"no image {' '.join(sys.argv[1:2])}; {__doc__}")
    main(*sys.argv[1:3])
