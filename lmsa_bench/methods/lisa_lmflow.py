"""LISA as its authors' LMFlow runs it (Pan et al., 2024; OptimalScale/LMFlow, DynamicLayerActivationCallback)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive


def lisa_lmflow(lr: Positive, gamma: Count = 1, interval: Count = 20, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes the ends and ``gamma`` layers drawn from all of them every ``interval`` steps; Adam's moments are kept.

    γ = 1 and 20 steps are LMFlow's defaults. Departure: its embeddings and head, which always train, are parts of the
    first and the last layer here, so these always train whole.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay)
    return Method(selectors.ends_and_drawn(gamma), update, Every(interval, "steps"))
