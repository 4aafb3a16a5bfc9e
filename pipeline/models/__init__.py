"""Networks by name: our small families, torchvision's and timm's, a function in a file of your own, or an ONNX file.

One file per place that networks come from; a library is imported only where a name asks for it.
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
