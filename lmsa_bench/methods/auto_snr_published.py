"""Auto-SNR as published: tensors whose gradient is steady, at the full rate (Lee et al., 2022; surgical-finetuning)."""

from functools import partial

from lmsa_bench.control import tensor_rates
from lmsa_bench.control.rates import RatedAdam
from lmsa_bench.methods.method import BATCHES, Count, Every, Method, NonNegative, Positive


def auto_snr_published(lr: Positive, batches: Count = BATCHES, weight_decay: NonNegative = 1e-4) -> Method:
    """Tunes the tensors whose ratio is at least 0.95, anew each epoch and with a new Adam (main.py, eb-criterion).

    The ratio is the mean of g² / (variance of g over dim 0 + 1e-8). Tensors with "bn" in their names stay as they are.
    Defaults and departures are those of ``auto_rgn_published``; where no tensor passes, nothing moves in that epoch.
    """
    select = tensor_rates.steady(batches)
    update = partial(RatedAdam, lr=lr, weight_decay=weight_decay)
    return Method(select, update, Every(1), prepare=tensor_rates.without_bn)
