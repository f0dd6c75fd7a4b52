"""LIFT: Adam on one layer per step, in turn (paper, section 4.1; Zhu et al., 2023)."""

from functools import partial
from typing import Annotated

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Averaged, Every, Method, NonNegative, Positive


def lift(lr: Positive, order: Annotated[selectors.Order, Averaged], weight_decay: NonNegative = 0.0) -> Method:
    """Tunes one layer per step with Adam, whose moments persist until the layer's next turn."""
    return Method(selectors.one_by_one(order), partial(Adam, lr=lr, weight_decay=weight_decay), Every(1, "steps"))
