"""LISA: the first and last layer always, middle ones drawn (Pan et al., 2024; paper, section 4.1)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive


def lisa(lr: Positive, gamma: Count | None = None, interval: Count = 20, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes both ends and ``gamma`` middle layers, drawn anew each ``interval`` steps, with Adam.

    A layer that leaves drops its moments. By default gamma is 1 for models of up to 5 layers (with 2 middle layers,
    2 would be full fine-tuning) and 2 for deeper ones.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay, keep_state=False)
    return Method(selectors.ends_and_some(gamma), update, Every(interval, "steps"))
