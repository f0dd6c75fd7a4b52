"""L-MSA with eq. 10 in closed form: the step whose loss Ĵ predicts, on every batch (paper, section 3)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.closed_form import ClosedForm
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.state_views import StateView
from lmsa_bench.methods.method import BATCHES, STATE_VIEW, C, Count, Every, Method, Positive


def lmsa_closed_form(
    step_c: Positive = 10.0,
    step_view: StateView = "flat",
    state_view: StateView = STATE_VIEW,
    c: Positive = C,
    batches: Count = BATCHES,
    every: Count | None = None,
) -> Method:
    """Tunes argmin Ĵ by steps −(1/(step_c · ρ̂)) ∂J/∂θ of each batch; exact for a linear layer, else a model of it.

    The step's constant has a grid of its own: one well below 1, good for choosing, is far too long to take. ``sample``
    is no view of the step.
    """
    update = partial(ClosedForm, c=step_c, state_view=step_view)
    return Method(selectors.best(predicted_loss(state_view, c, batches)), update, Every(every))
