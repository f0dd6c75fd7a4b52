"""L-MSA's criterion with Adam in place of MSA (paper, section 4.4, figure 6)."""

from lmsa_bench.control.state_views import StateView
from lmsa_bench.methods.lmsa_adam_k import lmsa_adam_k
from lmsa_bench.methods.method import BATCHES, STATE_VIEW, C, Count, Method, NonNegative, Positive


def lmsa_adam(
    lr: Positive,
    state_view: StateView = STATE_VIEW,
    c: Positive = C,
    batches: Count = BATCHES,
    every: Count | None = None,
    weight_decay: NonNegative = 0.0,
) -> Method:
    """Tunes argmin Ĵ (eq. 8) with one step of Adam per batch."""
    return lmsa_adam_k(lr, 1, state_view, c, batches, every, weight_decay)
