"""Says what an image shows: `python predict.py image.jpg [model_int8.onnx]`, by onnxruntime, numpy and Pillow alone."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(image: str, file: str = "model.onnx") -> None:
    session = onnxruntime.InferenceSession(Path(__file__).with_name(file))
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    channels, height, width = about["image_shape"]
    picture = ImageOps.exif_transpose(Image.open(image)).convert("L" if channels == 1 else "RGB")
    picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)  # as `prepare` does
    pixels = np.asarray(picture).reshape(1, height, width, channels).transpose(0, 3, 1, 2)
    logits = session.run(["logits"], {"pixels": pixels})[0][0]
    probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for index in probs.argsort()[::-1][:5]:
        print(f"{probs[index]:7.2%}  {about['class_names'][index]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
