"""Images made worse in the ways in which cameras and files make them worse.

base.py             the interface of a corruption, and the settings `evaluate.robustness`
gaussian_noise.py   noise that each pixel gets on its own
gaussian_blur.py    a blur
contrast.py         low contrast
jpeg.py             JPEG files of low quality

A new corruption is a file here, and a class in the table. The strengths are those of CIFAR-10-C,
which are meant for small images; on photographs its blur and its JPEG are mild. CIFAR-10-C cuts the
decimals of a pixel off; here they are rounded.

References:
    Dan Hendrycks, Thomas Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
    and Perturbations", 2019, arXiv 1903.12261, section 4.1, and the strengths in the authors'
    script that makes CIFAR-10-C.
"""

from pipeline.evaluation.corruptions.base import Corruption
from pipeline.evaluation.corruptions.contrast import Contrast
from pipeline.evaluation.corruptions.gaussian_blur import GaussianBlur
from pipeline.evaluation.corruptions.gaussian_noise import GaussianNoise
from pipeline.evaluation.corruptions.jpeg import Jpeg

#: Corruptions by kind, in the order in which a report shows them.
CORRUPTIONS: dict[str, type[Corruption]] = {cls.kind: cls for cls in (GaussianNoise, GaussianBlur, Contrast, Jpeg)}
