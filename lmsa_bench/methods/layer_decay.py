"""Layer-wise lr decay: all layers, the earlier the slower (Clark et al., 2020; timm's param_groups_layer_decay)."""

from functools import partial
from typing import Annotated

from annotated_types import Gt, Le

from lmsa_bench.control import selectors
from lmsa_bench.control.rates import RatedAdam, by_layer
from lmsa_bench.methods.method import Method, NonNegative, Positive


def layer_decay(lr: Positive, decay: Annotated[float, Gt(0), Le(1)] = 0.75, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes everything with Adam, layer n of N at the rate lr · decay^(N-1-n); 0.75 is timm's default.

    Departure: a layer is a block of the cut, where timm also counts the embedding and the head as layers.
    """
    rates = by_layer(lambda n, count: decay ** (count - 1 - n))
    update = partial(RatedAdam, lr=lr, rates=rates, weight_decay=weight_decay)
    return Method(selectors.every_layer(), update, rest=True)
