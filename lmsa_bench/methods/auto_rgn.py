"""Auto-RGN: Adam on the one layer with the largest relative gradient norm (paper, section 4.1; Lee et al., 2022).

As published it tunes every layer: each tensor's lr is multiplied by its RGN / the largest RGN, anew each epoch.
"""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.gradient_criteria import rgn
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import BATCHES, Count, Every, Method, NonNegative, Positive


def auto_rgn(
    lr: Positive, batches: Count = BATCHES, every: Count | None = None, weight_decay: NonNegative = 0.0
) -> Method:
    """Tunes argmax RGN with Adam; ``every`` epochs it selects again."""
    update = partial(Adam, lr=lr, weight_decay=weight_decay)
    return Method(selectors.best(rgn(batches)), update, Every(every))
