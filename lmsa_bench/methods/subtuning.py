"""SubTuning: the set of layers that a greedy search finds by validation (Kaplun et al., 2023; talswisa/SubTuning)."""

from functools import partial

from lmsa_bench.control.lookahead import greedy
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods.method import Count, Method, NonNegative, Positive


def subtuning(
    lr: Positive, epsilon: NonNegative = 0.0, search_epochs: Count = 1, weight_decay: NonNegative = 0.0
) -> Method:
    """Tunes the set found with Adam; the search looks at the validation split (greedy_subset_selection.py).

    Departures: a candidate is tuned for ``search_epochs`` epochs, not a whole training, and by one validation split,
    not five folds; where no set is better than the source model, the best single layer is tuned. ε, which the code
    leaves to a configuration, is 0.
    """
    return Method(greedy(lr, search_epochs, epsilon), partial(Adam, lr=lr, weight_decay=weight_decay))
