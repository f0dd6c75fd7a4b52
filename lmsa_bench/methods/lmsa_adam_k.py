"""The ablation's control, not in the paper: L-MSA's criterion with MSA's number of inner steps taken by Adam."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.state_views import StateView
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import BATCHES, INNER_STEPS, STATE_VIEW, C, Count, Every, Method, NonNegative, Positive


def lmsa_adam_k(
    lr: Positive,
    inner_steps: Count = INNER_STEPS,
    state_view: StateView = STATE_VIEW,
    c: Positive = C,
    batches: Count = BATCHES,
    every: Count | None = None,
    weight_decay: NonNegative = 0.0,
) -> Method:
    """Tunes argmin Ĵ (eq. 8) with ``inner_steps`` steps of Adam per batch."""
    select = selectors.best(predicted_loss(state_view, c, batches))
    return Method(select, partial(Adam, lr=lr, weight_decay=weight_decay, steps=inner_steps), Every(every))
