"""WiSE-FT: full fine-tuning, then an average with the source model (Wortsman et al., 2022; mlfoundations/wise-ft)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Le

from lmsa_bench.methods.full import full
from lmsa_bench.methods.method import Method, NonNegative, Positive, Values


def wise_ft(lr: Positive, alphas: Annotated[int, Ge(1), Le(100)] = 10, weight_decay: NonNegative = 0.0) -> Method:
    """Tunes everything, then takes (1 − α)θ_0 + αθ_1 with the α in 1/alphas, 2/alphas … 1 that validation prefers.

    Tenths are the published figures' grid. θ_1 is the best epoch by validation, as for every method here, where the
    code takes the last; α = 0, the source model, is left out, as it is another row.
    """

    def averages(before: Values, after: Values) -> Iterator[Values]:
        for i in range(1, alphas + 1):
            yield {name: (1 - i / alphas) * before[name] + i / alphas * value for name, value in after.items()}

    return replace(full(lr, weight_decay), finish=averages)
