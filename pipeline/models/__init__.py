"""Networks by name, their weights, and what runs them.

A name leads building.py to the file of the place that the network comes from: a family of our own,
torchvision, timm, a function in a file of the user's, or an ONNX file. A library is imported only
where a name asks for it. A Classifier wraps the network: samples in, logits of the data's classes
out; there is one for each kind of inputs. A new small family belongs into `FAMILIES` of
families.py, a new library into a file of its own.

answers.py       whether a network can be relied on, before its first step and when it is written
blocks.py        layers that families have in common
building.py      the network that a name stands for, and its own file
classes.py       the outputs of a teacher that stand for each class of the data
classifier.py    a network with all that stands between samples and logits of classes
compilers.py     the compilers that torch calls
counting.py      the size of a network, and its multiply-adds
devices.py       the device, and the data that may lie on it
estimator_files.py  fitted estimators on disk, without code; the one file that imports skops
estimators.py    estimators such as scikit-learn's as networks; the one file that imports it
embedding.py     the embedding of a network, beside its logits
faults.py        exceptions of a network's own code, with the layer and the line
families.py      small families for small images, and the table of all
forms.py         outputs for an image or at each of its pixels, brought to the image's size
hf.py            networks in a folder of Hugging Face's; the one file that imports transformers
image_classifier.py  a network that takes images
input_side.py    what stands between samples that are no images and a network
norms.py         norms that are given a single value, of which there is no variance
onnx.py          a network in an ONNX file, for inference alone; imports onnx and onnxruntime
output_kinds.py  whether outputs are logits or probabilities, and logits of either
precision.py     the number format to compute in
predict.py       logits of many batches, in smaller ones where memory is short
row_classifier.py  a network that takes rows of a table
row_families.py  small families for rows
saved.py         a trained network on disk
sound_classifier.py  a network that takes sounds, by their log-mel spectra
text_classifier.py  a network that takes texts
text_families.py  small families for texts
timm.py          networks of timm; the one file that imports it
torchvision.py   networks of torchvision; the one file that imports it
unet.py          a small family that gives logits at each pixel
user_file.py     networks that a function in a file of the user's builds
word_tokens.py   words cut into tokens, with the library tokenizers
weight_files.py  files of weights that were made elsewhere, read without executing anything
weight_sets.py   the set of tensors in a file that is a network's weights
weights.py       weights that were made elsewhere, put into a network or refused
"""

from pipeline.models.building import (
    ClassifierSpec,
    build_network,
    check_settings,
    copy_network_file,
    downloaded_weights,
    head_names,
    is_fitted_at_once,
    is_for_inference_alone,
    is_in_own_file,
    network_copy,
    own_tokenizer,
    published_weights,
    source_files,
)
from pipeline.models.classes import match_classes, read_class_names
from pipeline.models.classifier import Classifier, group_table, join_outputs
from pipeline.models.counting import count_multiply_adds, count_parameters
from pipeline.models.families import FAMILIES, convnet_small, resnet_small, vgg_small
from pipeline.models.image_classifier import ImageClassifier
from pipeline.models.onnx import OnnxNetwork
from pipeline.models.weights import Weights, find_misfits, load_weights, read_weights

__all__ = [
    "FAMILIES",
    "Classifier",
    "ClassifierSpec",
    "ImageClassifier",
    "OnnxNetwork",
    "Weights",
    "build_network",
    "check_settings",
    "convnet_small",
    "copy_network_file",
    "count_multiply_adds",
    "count_parameters",
    "downloaded_weights",
    "find_misfits",
    "group_table",
    "head_names",
    "is_fitted_at_once",
    "is_for_inference_alone",
    "is_in_own_file",
    "join_outputs",
    "load_weights",
    "match_classes",
    "network_copy",
    "own_tokenizer",
    "published_weights",
    "read_class_names",
    "read_weights",
    "resnet_small",
    "source_files",
    "vgg_small",
]
