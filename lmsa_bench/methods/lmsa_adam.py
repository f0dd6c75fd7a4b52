"""L-MSA's criterion with Adam in place of MSA (paper, figure 6), and the control that costs as much as MSA."""

from functools import partial

from lmsa_bench.control import criteria, selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive


def lmsa_adam(
    lr: Positive,
    state_view: criteria.StateView = "position",
    c: Positive = 0.1,
    batches: Count = 5,
    every: Count | None = None,
    weight_decay: NonNegative = 0.0,
) -> Method:
    """Tunes argmin Ĵ with one step of Adam a batch."""
    select = selectors.best(criteria.predicted_loss(state_view, c, batches))
    return Method(select, partial(Adam, lr=lr, weight_decay=weight_decay), Every(every))
