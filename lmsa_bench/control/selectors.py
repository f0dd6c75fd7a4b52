"""Which layers to tune: called again whenever a method's schedule says so."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch

from lmsa_bench.control.criteria import Batch, Criterion
from lmsa_bench.errors import UserError
from lmsa_bench.models.layered import LayeredModel

Order = Literal["front_to_end", "end_to_front", "random"]


class Selection(NamedTuple):
    """The layers to tune, ascending, and the criterion's scores behind the choice (by name, one value per layer)."""

    layers: tuple[int, ...]
    scores: dict[str, list[float]]


Selector = Callable[[LayeredModel, Iterable[Batch], int, torch.Generator], Selection]
"""Selects layers from a model, tuning batches (loaded only if iterated), the step's number and a generator."""


def none() -> Selector:
    """No layer: the source model is not changed."""
    return lambda model, batches, step, generator: Selection((), {})


def every_layer() -> Selector:
    """All layers."""
    return lambda model, batches, step, generator: Selection(tuple(range(len(model))), {})


def only(n: int) -> Selector:
    """Layer n; negative counts from the end; raises UserError if the model has no such layer."""

    def select(model: LayeredModel, batches: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        if not -len(model) <= n < len(model):
            raise UserError(f"layer {n}: the model has layers 0 to {len(model) - 1}")
        return Selection((n % len(model),), {})

    return select


def best(criterion: Criterion, name: str | None = None) -> Selector:
    """The layer with the best score (section 2.2: m = argmin Ĵ_n for the predicted loss of eq. 8).

    Under ``name``, where given, the scores are logged whatever the criterion logs. Raises UserError where a number that
    it gives is not finite.
    """

    def select(model: LayeredModel, batches: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        scores = criterion(model, batches)
        logged = scores.logged | ({name: scores.values} if name else {})
        for what, values in logged.items():
            if not all(map(math.isfinite, values)):
                shown = ", ".join(f"{value:g}" for value in values)
                raise UserError(
                    f"{what} is not finite: {shown} (smallest and largest of control.criteria allow for it)"
                )
        return Selection((scores.best,), logged)

    return select


def one_by_one(order: Order) -> Selector:
    """LIFT's order (section 4.1): step s tunes layer s mod N, counted from the front or the end, or a random layer."""

    def select(model: LayeredModel, batches: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        count = len(model)
        if order == "random":
            return Selection((int(torch.randint(count, (), generator=generator)),), {})
        turn = step % count
        return Selection((turn if order == "front_to_end" else count - 1 - turn,), {})

    return select


def ends_and_some(gamma: int | None) -> Selector:
    """LISA's draw (section 4.1): the first and last layer and γ random middle ones (None: 1 of up to 3, else 2)."""

    def select(model: LayeredModel, batches: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        middle = len(model) - 2
        count = gamma if gamma is not None else (1 if middle <= 3 else 2)
        if count > middle:
            raise UserError(f"gamma {count}: the model has {middle} middle layers")
        drawn = torch.randperm(middle, generator=generator)[:count] + 1
        return Selection((0, *sorted(drawn.tolist()), len(model) - 1), {})

    return select
