"""The usual residual networks of CIFAR-10, of 6n + 2 layers: ResNet-20, -32, -56, -110.

`params.yaml` takes it as a network file of one's own:
`model: benchmarks/cifar_resnet.py:build`, `model_settings: {depth: 20}`.

References:
    Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, "Deep Residual Learning for Image
    Recognition", 2015, arXiv 1512.03385, section 4.2 (shortcuts without weights: zeros for the
    channels that come in).
"""

import torch
import torch.nn.functional as F
from torch import nn

_WIDTHS = (16, 32, 64)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.new_channels = outputs // inputs, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shortcut = images
        if self.new_channels:
            shortcut = F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        images = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(images)))))
        return F.relu(images + shortcut)


def build(num_classes: int, channels: int, *, depth: int = 20) -> nn.Module:
    """Returns the network of `depth` layers, which must be 6n + 2."""
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise ValueError(f"depth {depth}: expected 6n + 2, such as 20 or 56")
    layers: list[nn.Module] = [nn.Conv2d(channels, _WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(_WIDTHS[0])]
    layers.append(nn.ReLU())
    inputs = _WIDTHS[0]
    for outputs in _WIDTHS:
        for _ in range(blocks):
            layers.append(_Block(inputs, outputs))
            inputs = outputs
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return network
