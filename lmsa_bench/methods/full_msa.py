"""Full + MSA: MSA on every layer, from one trajectory of states and co-states (paper, section 4.4, figure 6)."""

from dataclasses import replace

from lmsa_bench.control import selectors
from lmsa_bench.control.hamiltonian import Reduction
from lmsa_bench.methods.lmsa import lmsa
from lmsa_bench.methods.method import INNER_STEPS, MSA_LR, RHO, Count, Method, NonNegative, Positive


def full_msa(
    lr: Positive = MSA_LR,
    rho: NonNegative = RHO,
    inner_steps: Count = INNER_STEPS,
    costate_penalty: bool = True,
    reduction: Reduction = "sum",
    weight_decay: NonNegative = 0.0,
    reset_state: bool = False,
) -> Method:
    """Maximises every layer's augmented Hamiltonian (after eq. 7), all from the same trajectory (Jacobi)."""
    msa = lmsa(
        lr,
        rho,
        inner_steps,
        costate_penalty=costate_penalty,
        reduction=reduction,
        weight_decay=weight_decay,
        reset_state=reset_state,
    )
    return replace(msa, select=selectors.every_layer())
