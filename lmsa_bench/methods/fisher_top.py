"""Surgical fine-tuning by Fisher scores: the k layers with the largest (Lodha et al., 2023, arXiv 2310.17041)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.gradient_criteria import fisher
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import BATCHES, Count, Method, NonNegative, Positive


def fisher_top(lr: Positive, k: Count = 1, batches: Count = BATCHES, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the ``k`` layers with the largest mean diagonal of the Fisher information, with Adam.

    k = 1, so that it tunes as much as other rules of choice; the paper tries 1 to 5 layers of 12 and more.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay)
    return Method(selectors.best(fisher(batches), k=k), update)
