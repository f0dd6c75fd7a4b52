"""Norms only: Adam on the scales and shifts of all normalisations (Frankle et al., 2021; peft's ln_tuning)."""

from functools import partial

import torch
from torch import nn

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Method, NonNegative, Positive
from lmsa_bench.models.layered import LayeredModel

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def norm_only(lr: Positive, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the affine parameters of batch, layer and group norms, the last norm included; the lr is a grid's.

    Batch statistics stay those of the source, as everywhere here.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay)
    return Method(selectors.every_layer(), update, rest=True, prepare=_norms)


def _norms(model: LayeredModel, draw: torch.Generator) -> None:
    model.restrict(lambda name, module: isinstance(module, NORMS))
