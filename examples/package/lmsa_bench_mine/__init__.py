"""A model from timm, cut into layers, and flipped digits on it."""

from dataclasses import replace

import timm
from torch import nn

from lmsa_bench.models import MODELS, LayeredModel
from lmsa_bench.tasks import TASKS
from lmsa_bench.tasks.digits import digits_flip
from lmsa_bench.tasks.task import Task


@MODELS.register
def resnet10t(classes: int, input_shape: tuple[int, int, int]) -> LayeredModel:
    """timm's ResNet-10-T: the stem is in the first layer, the pooling in the last."""
    net = timm.create_model("resnet10t", num_classes=classes, in_chans=input_shape[0])
    layers = {
        "layer1": nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1),
        "layer2": net.layer2,
        "layer3": net.layer3,
        "layer4": net.layer4,
        "fc": nn.Sequential(net.global_pool, net.fc),
    }
    return LayeredModel(net, layers)


@TASKS.register
def digits_flip_resnet() -> Task:
    """Digits with labels 9 - y, on a ResNet."""
    return replace(digits_flip(), name="digits_flip_resnet", model="resnet10t")
