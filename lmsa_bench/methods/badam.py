"""BAdam: one block at a time with a fresh Adam (Luo et al., 2024; Ledzy/BAdam, block_optim.py)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive


def badam(
    lr: Positive, order: selectors.Order = "end_to_front", steps: Count = 50, weight_decay: NonNegative = 0.0
) -> Method:
    """Tunes one layer for ``steps`` steps, then the next; a switch resets the moments.

    50 steps and the descending order are the code's defaults; a random order is a new permutation each cycle. With one
    layer, or one drawn twice in a row, as the code's first of a cycle can be, the moments stay.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay, keep_state=False)
    return Method(selectors.in_cycles(order, steps), update, Every(steps, "steps"))
