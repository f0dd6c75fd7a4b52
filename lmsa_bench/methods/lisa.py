"""LISA: Adam on the first, the last and random middle layers (paper, section 4.1; Pan et al., 2024)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive


def lisa(lr: Positive, gamma: Count | None = None, interval: Count = 20, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the first and last layer and ``gamma`` middle layers, redrawn every ``interval`` steps, with Adam.

    A layer that is no longer tuned loses its moments. By default gamma is 1 for models of up to 5 layers (with 2 middle
    layers, 2 would be full fine-tuning) and 2 for deeper ones.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay, keep_state=False)
    return Method(selectors.ends_and_some(gamma), update, Every(interval, "steps"))
