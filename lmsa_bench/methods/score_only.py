"""A criterion's scores of the source model, without training (paper, figures 4 and 7, and the fidelity report)."""

from typing import Literal

from lmsa_bench.control import criteria, selectors
from lmsa_bench.methods.method import Count, Method, Positive


def score_only(
    criterion: Literal["predicted_loss", "rgn", "snr"],
    state_view: criteria.StateView = "flat",
    c: Positive = 1.0,
    batches: Count = 5,
) -> Method:
    """Scores every layer and tunes none; ``state_view`` and ``c`` matter to the predicted loss alone."""
    if criterion == "predicted_loss":
        return Method(selectors.best(criteria.predicted_loss(state_view, c, batches)), None)
    return Method(selectors.best({"rgn": criteria.rgn, "snr": criteria.snr}[criterion](batches)), None)
