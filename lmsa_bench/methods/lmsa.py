"""L-MSA: MSA on the layer with the smallest predicted loss (paper, section 2.2, eq. 8 and 9)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.hamiltonian import Reduction
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.state_views import StateView
from lmsa_bench.control.updates import MSA
from lmsa_bench.methods.method import (
    BATCHES,
    INNER_STEPS,
    MSA_LR,
    RHO,
    STATE_VIEW,
    C,
    Count,
    Every,
    Method,
    NonNegative,
    Positive,
)


def lmsa(
    lr: Positive = MSA_LR,
    rho: NonNegative = RHO,
    inner_steps: Count = INNER_STEPS,
    state_view: StateView = STATE_VIEW,
    c: Positive = C,
    batches: Count = BATCHES,
    every: Count | None = None,
    costate_penalty: bool = True,
    reduction: Reduction = "sum",
    weight_decay: NonNegative = 0.0,
    reset_state: bool = False,
) -> Method:
    """Tunes argmin Ĵ by maximising its augmented Hamiltonian (after eq. 7); reselects every ``every`` epochs."""
    update = partial(
        MSA,
        lr=lr,
        rho=rho,
        inner_steps=inner_steps,
        costate_penalty=costate_penalty,
        reduction=reduction,
        weight_decay=weight_decay,
        reset_state=reset_state,
    )
    return Method(selectors.best(predicted_loss(state_view, c, batches)), update, Every(every))
