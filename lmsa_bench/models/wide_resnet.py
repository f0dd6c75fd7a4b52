"""Wide ResNets (Zagoruyko & Komodakis, 2016) with RobustBench's key names, cut into block1, block2, block3 and fc."""

import math

import torch
from torch import Tensor, nn

from lmsa_bench.models.layered import LayeredModel


class BasicBlock(nn.Module):
    """Two pre-activation 3x3 convolutions and a shortcut; (K, inputs, H, W) to (K, outputs, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pre = torch.relu(self.bn1(x))
        # A convolutional shortcut takes the activated input, an identity shortcut the raw one.
        shortcut = x if self.convShortcut is None else self.convShortcut(pre)
        states: Tensor = shortcut + self.conv2(torch.relu(self.bn2(self.conv1(pre))))
        return states


class NetworkBlock(nn.Module):
    """``count`` basic blocks, the first of which changes width and resolution."""

    def __init__(self, count: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = BasicBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(count - 1)))

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.layer(x)
        return states


class WideResNet(nn.Module):
    """WRN-depth-width for images of any size: (K, channels, H, W) in [0, 1] to (K, classes)."""

    def __init__(self, depth: int, width: int, classes: int, channels: int, stem_stride: int) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"depth of a wide ResNet: expected 6k + 4, got {depth}")
        count, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(channels, widths[0], 3, stem_stride, 1, bias=False)
        self.block1 = NetworkBlock(count, widths[0], widths[1], 1)
        self.block2 = NetworkBlock(count, widths[1], widths[2], 2)
        self.block3 = NetworkBlock(count, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels)))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(torch.relu(self.bn1(x)).mean((2, 3)))
        return logits


class PooledClassifier(nn.Module):
    """The fc layer: norm, ReLU and global pooling, frozen, then the classifier; (K, C, H, W) to (K, classes)."""

    def __init__(self, bn: nn.Module, fc: nn.Module) -> None:
        super().__init__()
        self.bn, self.fc = bn, fc

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.relu(self.bn(x)).mean((2, 3)))
        return logits


def wide_resnet(depth: int, width: int, classes: int, channels: int = 3, stem_stride: int = 1) -> LayeredModel:
    """A WRN cut into the paper's four layers (appendix A.2.4): conv1 is in block1; fc's θ is only the classifier."""
    net = WideResNet(depth, width, classes, channels, stem_stride)
    layers = {
        "block1": nn.Sequential(net.conv1, net.block1),
        "block2": net.block2,
        "block3": net.block3,
        "fc": PooledClassifier(net.bn1, net.fc),
    }
    return LayeredModel(net, layers, theta={"fc": net.fc})


def wrn_28_10(classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    """WRN-28-10, 36.5 M parameters with 10 classes (paper, table 2)."""
    return wide_resnet(28, 10, classes, input_shape[0])


def wrn_16_1(classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    """WRN-16-1, 0.18 M parameters: the paper's cut for colour images without a GPU."""
    return wide_resnet(16, 1, classes, input_shape[0])


def wrn_10_1(classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    """WRN-10-1 with a stride-2 stem, 78 k parameters: the small suites' convolutional network."""
    return wide_resnet(10, 1, classes, input_shape[0], stem_stride=2)
