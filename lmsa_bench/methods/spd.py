"""SPD: Adam with selective projection decay (Tian et al., 2024; GT-RIPL/Selective-Projection-Decay, adamSPD.py)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.anchored import SelectiveDecay
from lmsa_bench.methods.method import Method, NonNegative, Positive


def spd(lr: Positive, decay: NonNegative = 1.0) -> Method:
    """Tunes everything; a step that leads a tensor further from θ_0, against its gradient, is taken back in part.

    At 1, where the paper advises to start, the tensor is drawn back onto the sphere it was on.
    """
    return Method(selectors.every_layer(), partial(SelectiveDecay, lr=lr, decay=decay), rest=True)
