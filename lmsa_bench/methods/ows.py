"""OWS: LISA with layers drawn by their outliers (Li et al., 2024, OwLore; outliers as in OWL, Yin et al., 2024)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.control.weight_criteria import outliers
from lmsa_bench.methods.method import BATCHES, Count, Every, Method, NonNegative, Positive


def ows(
    lr: Positive,
    gamma: Count = 1,
    interval: Count = 20,
    factor: Positive = 13.0,
    batches: Count = BATCHES,
    weight_decay: NonNegative = 0.0,
) -> Method:
    """Tunes the ends and ``gamma`` layers, drawn in proportion to the source model's outlier ratios every ``interval``.

    Factor 13 is that of the code's file of ratios (llama2_ratio_13.txt), and 1 layer in 20 steps LMFlow's. Departures:
    full rank, without the paper's GaLore; the ends always train whole, as in ``lisa_lmflow``.
    """
    update = partial(Adam, lr=lr, weight_decay=weight_decay)
    return Method(selectors.ends_and_drawn(gamma, outliers(factor, batches)), update, Every(interval, "steps"))
