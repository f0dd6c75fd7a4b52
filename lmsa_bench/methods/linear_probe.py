"""Linear probe: Adam on the classifier alone (Kumar et al., 2022; AnanyaKumar/transfer_learning)."""

from functools import partial

import torch

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Method, NonNegative, Positive
from lmsa_bench.models.layered import LayeredModel, head_of


def linear_probe(lr: Positive, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the classifier, the network's last linear map, with Adam; published with a grid of rates, as here.

    Departure: Adam in place of logistic regression by L-BFGS. Where the last layer is the classifier, as in a ResNet,
    this is ``single_layer`` with n = -1; a transformer's last layer is a whole block.
    """
    return Method(selectors.only(-1), partial(Adam, lr=lr, weight_decay=weight_decay), prepare=_classifier)


def _classifier(model: LayeredModel, draw: torch.Generator) -> None:
    head = head_of(model.source)
    model.restrict(lambda name, module: name.rpartition(".")[0] == head)
