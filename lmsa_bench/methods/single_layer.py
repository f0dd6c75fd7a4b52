"""One given layer, with Adam or MSA: the ground truth for criteria (paper, figures 1, 4 and 7)."""

from functools import partial
from typing import Literal

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import MSA, Adam
from lmsa_bench.methods.method import RHO, Method, NonNegative, Positive


def single_layer(
    n: int,
    lr: Positive,
    update: Literal["adam", "msa"] = "adam",
    rho: NonNegative = RHO,
    weight_decay: NonNegative = 0.0,
) -> Method:
    """Tunes layer n alone (negative: counted from the end)."""
    if update == "adam":
        return Method(selectors.only(n), partial(Adam, lr=lr, weight_decay=weight_decay))
    return Method(selectors.only(n), partial(MSA, lr=lr, rho=rho, weight_decay=weight_decay))
