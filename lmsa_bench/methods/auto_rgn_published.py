"""Auto-RGN as published: every tensor at a rate in proportion to its RGN (Lee et al., 2022; surgical-finetuning)."""

from functools import partial

from lmsa_bench.control import tensor_rates
from lmsa_bench.control.rates import RatedAdam
from lmsa_bench.methods.method import BATCHES, Count, Every, Method, NonNegative, Positive


def auto_rgn_published(lr: Positive, batches: Count = BATCHES, weight_decay: NonNegative = 1e-4) -> Method:
    """Tunes each tensor at lr · RGN / the largest RGN, anew each epoch and with a new Adam (main.py, main).

    Tensors with "bn" in their names stay as they are. 5 batches and weight decay 1e-4 are the code's, whose lr is one
    of 1e-1 to 1e-5. Departures: the network is in eval mode, the code's in train mode; a tensor that is all 0 has
    rate 0.
    """
    select = tensor_rates.relative(batches)
    update = partial(RatedAdam, lr=lr, weight_decay=weight_decay)
    return Method(select, update, Every(1), prepare=tensor_rates.without_bn)
