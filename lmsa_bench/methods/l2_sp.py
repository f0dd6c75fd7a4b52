"""L2-SP: full fine-tuning with a penalty on the distance to the source model (Li et al., 2018)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.anchored import SquaredDistance
from lmsa_bench.methods.method import Method, NonNegative, Positive


def l2_sp(lr: Positive, penalty: NonNegative = 0.01) -> Method:
    """Tunes everything with Adam on the mean loss + ½ penalty ‖θ − θ_0‖².

    0.01 is Transfer-Learning-Library's default of the trade-off. Departure: the paper's second penalty is for a new
    classifier, and here no classifier is new.
    """
    return Method(selectors.every_layer(), partial(SquaredDistance, lr=lr, penalty=penalty), rest=True)
