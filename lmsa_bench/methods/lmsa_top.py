"""L-MSA on the k layers with the smallest predicted loss: the paper's "small subset of layers" (section 2.2)."""

from dataclasses import replace

from lmsa_bench.control import selectors
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.state_views import StateView
from lmsa_bench.methods.lmsa import lmsa
from lmsa_bench.methods.method import (
    BATCHES,
    INNER_STEPS,
    MSA_LR,
    RHO,
    STATE_VIEW,
    C,
    Count,
    Method,
    NonNegative,
    Positive,
)


def lmsa_top(
    k: Count = 2,
    lr: Positive = MSA_LR,
    rho: NonNegative = RHO,
    inner_steps: Count = INNER_STEPS,
    state_view: StateView = STATE_VIEW,
    c: Positive = C,
    batches: Count = BATCHES,
    every: Count | None = None,
) -> Method:
    """Maximises the augmented Hamiltonians of the ``k`` layers with the smallest Ĵ, from one trajectory (Jacobi)."""
    one = lmsa(lr, rho, inner_steps, every=every)
    return replace(one, select=selectors.best(predicted_loss(state_view, c, batches), k=k))
