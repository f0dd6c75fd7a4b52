"""FTP: Adam inside a ball around the source model whose radii are learned (Tian et al., 2023; GT-RIPL/FTP)."""

from functools import partial

from lmsa_bench.control import selectors
from lmsa_bench.control.projection import TrainableProjection
from lmsa_bench.methods.method import Method, NonNegative, Positive


def ftp(lr: Positive, anneal: NonNegative = 1.0, radius_lr: Positive = 1e-2) -> Method:
    """Tunes everything; after a step each row of a tensor is clipped to the tensor's radius around θ_0, in the 1-norm.

    1 and 1e-2 are the code's k and μ (util/FTP.py, AdamP). Departure: the code leaves out what its user names, such as
    a new classifier; here nothing is left out.
    """
    update = partial(TrainableProjection, lr=lr, anneal=anneal, radius_lr=radius_lr)
    return Method(selectors.every_layer(), update, rest=True)
