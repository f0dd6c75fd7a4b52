"""Full fine-tuning: Adam on all parameters (paper, section 4.1)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Method, NonNegative, Positive


def full(lr: Positive, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes every layer with Adam, and the parameters that are in no layer's θ."""
    return Method(selectors.every_layer(), partial(Adam, lr=lr, weight_decay=weight_decay), rest=True)
