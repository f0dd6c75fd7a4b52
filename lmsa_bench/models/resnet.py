"""ResNet-50 from timm, cut into its four stages and the classifier (paper, appendix A.2.4)."""

from typing import Any

from torch import nn

from lmsa_bench.models.layered import LayeredModel


def resnet50(classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    """ResNet-50, 25.6 M parameters with 1000 classes (paper, table 2): the stem is in layer1, the pooling in fc."""
    import timm  # takes seconds, and the small suites do not need it

    net: Any = timm.create_model("resnet50.tv_in1k", pretrained=False, num_classes=classes, in_chans=input_shape[0])
    layers = {
        "layer1": nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1),
        "layer2": net.layer2,
        "layer3": net.layer3,
        "layer4": net.layer4,
        "fc": nn.Sequential(net.global_pool, net.fc),
    }
    return LayeredModel(net, layers)
