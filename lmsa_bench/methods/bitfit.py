"""BitFit: Adam on all biases (Ben Zaken et al., 2022)."""

from functools import partial

import torch

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Method, Positive
from lmsa_bench.models.layered import LayeredModel


def bitfit(lr: Positive) -> Method:
    """Tunes every parameter named ``bias``, those of norms and of the classifier included; the lr is a grid's.

    Departure: the published code also trains a new classifier's weight; here no classifier is new.
    """
    return Method(selectors.every_layer(), partial(Adam, lr=lr), rest=True, prepare=_biases)


def _biases(model: LayeredModel, draw: torch.Generator) -> None:
    model.restrict(lambda name, module: name.rpartition(".")[2] == "bias")
