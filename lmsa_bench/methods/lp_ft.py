"""LP-FT: the classifier first, then everything from there (Kumar et al., 2022; AnanyaKumar/transfer_learning)."""

from collections.abc import Iterable
from functools import partial

import torch

from lmsa_bench.control.criteria import Batch
from lmsa_bench.control.rates import RatedAdam
from lmsa_bench.control.selectors import Selection
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive
from lmsa_bench.models.layered import LayeredModel, head_of


def lp_ft(lr: Positive, probe_lr: Positive = 1e-2, probe_epochs: Count = 3, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the classifier for ``probe_epochs`` at ``probe_lr``, then all parameters at ``lr``, with a new Adam.

    Published with a grid of rates for either stage. Departure: the first stage takes epochs of the training's, so that
    LP-FT trains no longer than others; by default 3, as this benchmark's own source models of Living-17 do.
    """

    def select(model: LayeredModel, batches: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        if step:
            return Selection(tuple(range(len(model))), {}, (1.0,) * len(model.tunable()))
        head = set(map(id, model.source.get_submodule(head_of(model.source)).parameters()))
        rates = tuple(probe_lr / lr if id(parameter) in head else 0.0 for parameter in model.tunable())
        return Selection((len(model) - 1,), {}, rates)

    update = partial(RatedAdam, lr=lr, weight_decay=weight_decay)
    return Method(select, update, Every(probe_epochs, times=2), rest=True)
