"""The control of the ablation: L-MSA's criterion with as many Adam steps a batch as MSA takes inside."""

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
    """Tunes argmin Ĵ with ``inner_steps`` steps of Adam a batch."""
    select = selectors.best(criteria.predicted_loss(state_view, c, batches))
    return Method(select, partial(Adam, lr=lr, weight_decay=weight_decay, steps=inner_steps), Every(every))
