"""Networks cut into layers: a factory maps (classes, input_shape = (C, H, W)) to a LayeredModel with random weights."""

from lmsa_bench.models.layered import LayeredModel
from lmsa_bench.models.resnet import resnet50
from lmsa_bench.models.vit import deit_tiny, small_vit
from lmsa_bench.models.wide_resnet import wrn_10_1, wrn_16_1, wrn_28_10
from lmsa_bench.registry import Registry

MODELS = Registry[LayeredModel]("model")
MODELS.register(deit_tiny)
MODELS.register(resnet50)
MODELS.register(small_vit)
MODELS.register(wrn_10_1)
MODELS.register(wrn_16_1)
MODELS.register(wrn_28_10)

__all__ = ["MODELS", "LayeredModel"]
