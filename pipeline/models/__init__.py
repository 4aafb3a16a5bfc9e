"""Networks by name, their weights, and what runs them.

Networks by name: our small families, torchvision's and timm's, a function in a file of your own, or an ONNX file.

One file per place that networks come from; a library is imported only where a name asks for it.

    building.py     build_model: the network that a name stands for, from wherever networks come
    classes.py      Which outputs of a teacher stand for which classes of the data
    classifier.py   Classifier: a network with all that stands between pixels and the logits of this data's classes
    counting.py     How large a network is, and how much it computes
    devices.py      device and number format; what lies on a device, and how it gets there
    families.py     Our own small families: for images of some tens of pixels, trained from nothing on a processor
    onnx.py         A network in an ONNX file, `onnx/<path>`, for inference alone; the one file of networks that imports onnx and onnxruntime
    predict.py      predict_logits
    saved.py        a trained network on disk
    timm.py         Networks of timm, `timm/<name>` or `timm/<name>.<tag>`; the one file that imports it
    torchvision.py  Networks of torchvision, `torchvision/<name>`; the one file that imports it
    user_file.py    Networks that a function in a file of the user's builds: `path/my_model.py:build`
    weights.py      Weights that were made elsewhere: read from a file, nothing of it executed, and put into a network, or refused
"""

from pipeline.models.building import (
    build_model,
    build_network,
    copy_network_file,
    head_names,
    is_for_inference_alone,
    network_copy,
    published_weights,
    source_files,
)
from pipeline.models.classes import match_classes, read_class_names
from pipeline.models.classifier import Classifier, group_table, join_outputs
from pipeline.models.counting import count_multiply_adds, count_parameters
from pipeline.models.families import FAMILIES, convnet_small, resnet_small, vgg_small
from pipeline.models.onnx import OnnxNetwork
from pipeline.models.weights import Weights, find_misfits, load_weights, read_weights

__all__ = [
    "FAMILIES",
    "Classifier",
    "OnnxNetwork",
    "Weights",
    "build_model",
    "build_network",
    "convnet_small",
    "copy_network_file",
    "count_multiply_adds",
    "count_parameters",
    "find_misfits",
    "group_table",
    "head_names",
    "is_for_inference_alone",
    "join_outputs",
    "load_weights",
    "match_classes",
    "network_copy",
    "published_weights",
    "read_class_names",
    "read_weights",
    "resnet_small",
    "source_files",
    "vgg_small",
]
