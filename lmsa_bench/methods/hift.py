"""HiFT: a group of layers a step, in turn (Liu et al., 2024; misonsky/HiFT, hift/trainer.py)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive


def hift(
    lr: Positive, group: Count = 1, order: selectors.Order = "front_to_end", weight_decay: NonNegative = 0.0
) -> Method:
    """Tunes ``group`` neighbouring layers a step; Adam's moments stay until a group's next turn.

    1 layer, from the bottom up (down2up), are the code's defaults. Its learning rate moves once a cycle; here it is
    constant, so with groups of 1 this is LIFT. Where the number of layers is no multiple, a group has the last and the
    first of them. Departure: a random order is drawn a step at a time, the code's once.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay)
    return Method(selectors.one_by_one(order, group=group), update, Every(1, "steps"))
