"""A criterion's scores of the source model, without training (paper, figures 4 and 7, and the fidelity report)."""

import inspect
from typing import Annotated

from lmsa_bench.control import CRITERIA, selectors
from lmsa_bench.control.criteria import StateView
from lmsa_bench.methods.method import BATCHES, STATE_VIEW, C, Count, Method, Named, Positive


def score_only(
    criterion: Annotated[str, Named(CRITERIA)],
    state_view: StateView = STATE_VIEW,
    c: Positive = C,
    batches: Count = BATCHES,
) -> Method:
    """Scores every layer with a criterion in CRITERIA, given the options that its factory has; tunes nothing."""
    factory = CRITERIA.get(criterion)
    options = {"state_view": state_view, "c": c, "batches": batches}
    parameters = inspect.signature(factory).parameters
    accepted = {name: value for name, value in options.items() if name in parameters}
    return Method(selectors.best(factory(**accepted)), None)
