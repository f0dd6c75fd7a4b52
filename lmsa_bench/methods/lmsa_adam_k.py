"""The ablation's control, not in the paper: L-MSA's criterion with MSA's number of inner steps taken by Adam."""

from functools import partial

from lmsa_bench.control import criteria, selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive


def lmsa_adam_k(
    lr: Positive,
    inner_steps: Count = 5,
    state_view: criteria.StateView = "position",
    c: Positive = 0.01,
    batches: Count = 5,
    every: Count | None = None,
    weight_decay: NonNegative = 0.0,
) -> Method:
    """Tunes argmin Ĵ (eq. 8) with ``inner_steps`` steps of Adam per batch."""
    select = selectors.best(criteria.predicted_loss(state_view, c, batches))
    return Method(select, partial(Adam, lr=lr, weight_decay=weight_decay, steps=inner_steps), Every(every))
