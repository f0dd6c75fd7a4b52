"""What a criterion is: one score a layer from tuning batches, and the layer that it names; always finite numbers."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple

from torch import Tensor

from lmsa_bench.errors import UserError
from lmsa_bench.models.layered import LayeredModel

Batch = tuple[Tensor, Tensor]

# JSON knows neither NaN nor infinity. Of float32, so that sums of such values are still finite in float64.
LARGEST = (2 - 2**-23) * 2.0**127


class NoBatches(ValueError):
    """A criterion was given no tuning batch, or a model without values."""


class Scores(NamedTuple):
    """One value per layer, the index of the best layer, and the per-layer lists that a trial records, by name."""

    values: list[float]
    best: int
    logged: dict[str, list[float]]

    def top(self, k: int) -> tuple[int, ...]:
        """The k best layers, ascending; which end of the values is good, the best layer tells."""
        sign = -1 if self.values[self.best] == max(self.values) else 1
        ranked = sorted(range(len(self.values)), key=lambda n: (n != self.best, sign * self.values[n], n))
        return tuple(sorted(ranked[:k]))


Criterion = Callable[[LayeredModel, Iterable[Batch]], Scores]
"""Scores every layer of a model on tuning batches; may change requires_grad, but no parameter's value."""


def smallest(name: str, values: Sequence[float], beside: Mapping[str, Sequence[float]] | None = None) -> Scores:
    """Scores of which the smallest is the best (the first of equal ones), logged by that name, and others ``beside``.

    A value that is not finite says nothing of its layer (a state overflowed, or a criterion divided 0 by 0), so that
    layer ranks last: its value is LARGEST, as what is NaN or ∞ beside it. Raises UserError where no value is finite.
    """
    finite = [n for n, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        raise UserError(f"{name} is not finite for any layer: {', '.join(f'{value}' for value in values)}")
    ranked = [value if math.isfinite(value) else math.inf for value in values]  # -∞ is no best value either
    logged = {key: [_bounded(value) for value in listed] for key, listed in {name: ranked, **(beside or {})}.items()}
    return Scores(logged[name], min(finite, key=values.__getitem__), logged)


def largest(name: str, values: Sequence[float]) -> Scores:
    """Scores of which the largest is the best, as ``smallest``: a layer whose value is not finite gets -LARGEST."""
    # Of +∞ nothing is known either, and its negative would lead.
    negative, best, _ = smallest(name, [-value if math.isfinite(value) else math.nan for value in values])
    found = [-value for value in negative]
    return Scores(found, best, {name: found})


def _bounded(value: float) -> float:
    return max(value, -LARGEST) if value < LARGEST else LARGEST  # NaN is not smaller


def first(tuning: Iterable[Batch], batches: int | None = None) -> Iterator[Batch]:
    """The first so many of the batches (None: all), or as many as there are; raises NoBatches where there is none."""
    selected = islice(tuning, batches)
    one = next(selected, None)
    if one is None:
        raise NoBatches("a criterion needs at least one tuning batch")
    return chain([one], selected)
