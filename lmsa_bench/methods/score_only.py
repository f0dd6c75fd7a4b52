"""A criterion's scores of the source model, without training (paper, figures 4 and 7, and the fidelity report)."""

import inspect
from typing import Annotated

from lmsa_bench.control import CRITERIA, selectors
from lmsa_bench.control.state_views import StateView
from lmsa_bench.errors import UserError
from lmsa_bench.methods.method import BATCHES, STATE_VIEW, C, Count, Method, Named, Positive


def score_only(
    criterion: Annotated[str, Named(CRITERIA)],
    state_view: StateView = STATE_VIEW,
    c: Positive = C,
    batches: Count = BATCHES,
    diagnose: bool = False,
) -> Method:
    """Scores every layer by a name in CRITERIA and tunes none; a criterion is given what its factory asks for.

    Raises UserError where the factory asks for more than these.
    """
    factory = CRITERIA.get(criterion)
    options = {"state_view": state_view, "c": c, "batches": batches, "diagnose": diagnose}
    wanted = inspect.signature(factory).parameters
    lacking = [p.name for p in wanted.values() if p.name not in options and p.default is p.empty]
    if lacking:
        raise UserError(f"criterion {criterion!r} needs {', '.join(lacking)}: it gets {', '.join(options)} alone")
    given = {name: value for name, value in options.items() if name in wanted}
    return Method(selectors.best(factory(**given), criterion), None)
