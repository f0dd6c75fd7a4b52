"""L-MSA: the layer of the smallest predicted loss (eq. 8, 9), tuned by MSA (paper, section 2.2)."""

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
    """Tunes argmin Ĵ by raising the augmented Hamiltonian; ``every`` epochs it selects again."""
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
