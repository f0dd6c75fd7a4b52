"""AutoFreeze: freezes from the front what no longer changes (Liu et al., 2021; YuhanLiu11/AutoFreeze)."""

from functools import partial
from typing import Annotated

from annotated_types import Ge, Le

from lmsa_bench.control.freezing import Gathering, from_the_front
from lmsa_bench.methods.method import Count, Every, Method, NonNegative, Positive

Percent = Annotated[float, Ge(0), Le(100)]


def autofreeze(lr: Positive, percentile: Percent = 50.0, every: Count = 1, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes all layers; every ``every`` epochs, from the second time on, it freezes those before the first whose
    gradients' change reaches the percentile of all that still train, and starts a new Adam.

    The 50th percentile is the code's default. It looks 10 times in a training: once an epoch in one of 10 epochs.
    """
    update = partial(Gathering, lr=lr, weight_decay=weight_decay)
    return Method(from_the_front(percentile), update, Every(every))
