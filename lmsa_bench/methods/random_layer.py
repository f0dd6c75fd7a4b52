"""A layer by lot: the control of every rule of choice."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Method, NonNegative, Positive


def random_layer(lr: Positive, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes one layer with Adam, drawn once by the trial's seed."""
    return Method(selectors.one_by_one("random"), partial(Adam, lr=lr, weight_decay=weight_decay))
