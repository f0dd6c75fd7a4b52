"""LoRA: low-rank corrections of all linear maps and convolutions (Hu et al., 2022; as in peft 0.21)."""

from functools import partial

from lmsa_bench.control import low_rank, selectors
from lmsa_bench.control.rates import RatedAdam, by_name
from lmsa_bench.methods.method import Count, Method, NonNegative, Positive


def lora(
    lr: Positive, rank: Count = 8, alpha: Positive = 8.0, ratio: Positive = 1.0, weight_decay: NonNegative = 0.0
) -> Method:
    """Tunes A and B of W + alpha/rank · B·A with Adam, B at ``ratio`` times A's rate; nothing else.

    rank and alpha are peft's defaults; no dropout. Departure: all linear maps and convolutions, the classifier among
    them, have a correction, where peft names some and trains a new classifier whole. A grouped convolution has none.
    """
    rates = by_name(lambda name: ratio if low_rank.is_b(name) else 1.0)
    update = partial(RatedAdam, lr=lr, rates=rates, weight_decay=weight_decay)
    prepare = partial(low_rank.add, rank, alpha)
    return Method(selectors.every_layer(), update, prepare=prepare)
