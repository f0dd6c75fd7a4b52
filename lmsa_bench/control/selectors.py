"""Which layers to tune: called again whenever a method's schedule says so."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch

from lmsa_bench.control.criteria import Batch
from lmsa_bench.control.evidence import Evidence, Judge
from lmsa_bench.errors import UserError
from lmsa_bench.models.layered import LayeredModel

LEAST = 1e-12  # chance of a layer without a score

Order = Literal["front_to_end", "end_to_front", "random"]


class Selection(NamedTuple):
    """The layers to tune, ascending, and the criterion's scores behind the choice (by name, one value per layer).

    ``rates``, for an update that takes them, are factors of the learning rate, one for each of ``model.tunable()``.
    """

    layers: tuple[int, ...]
    scores: dict[str, list[float]]
    rates: tuple[float, ...] = ()


Selector = Callable[[LayeredModel, Evidence, int, torch.Generator], Selection]
"""Selects layers from a model, evidence (loaded only if iterated), the step's number and a generator.

One that is annotated to take an iterable of batches sees tuning batches alone.
"""


def none() -> Selector:
    """No layer: the source model is not changed."""
    return lambda model, batches, step, generator: Selection((), {})


def every_layer() -> Selector:
    """All layers that have parameters to tune."""
    return lambda model, batches, step, generator: Selection(
        tuple(n for n in range(len(model)) if model.parameters_of(n)), {}
    )


def only(*layers: int) -> Selector:
    """The given layers; negative counts from the end; raises UserError if the model has no such layer."""

    def select(model: LayeredModel, batches: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        for n in layers:
            if not -len(model) <= n < len(model):
                raise UserError(f"layer {n}: the model has layers 0 to {len(model) - 1}")
        return Selection(tuple(sorted({n % len(model) for n in layers})), {})

    return select


def best(criterion: Judge, name: str | None = None, k: int = 1) -> Selector:
    """The k layers with the best scores (section 2.2: m = argmin Ĵ_n for the predicted loss of eq. 8).

    Under ``name``, where given, the scores are logged whatever the criterion logs. Raises UserError where a number that
    it gives is not finite, and where the model has fewer layers.
    """

    def select(model: LayeredModel, evidence: Evidence, step: int, generator: torch.Generator) -> Selection:
        scores = criterion(model, evidence)
        if k > len(scores.values):
            raise UserError(f"k {k}: the model has {len(scores.values)} layers")
        logged = scores.logged | ({name: scores.values} if name else {})
        for what, values in logged.items():
            if not all(map(math.isfinite, values)):
                shown = ", ".join(f"{value:g}" for value in values)
                raise UserError(
                    f"{what} is not finite: {shown} (smallest and largest of control.criteria allow for it)"
                )
        return Selection(scores.top(k), logged)

    return select


def one_by_one(order: Order, steps: int = 1, group: int = 1) -> Selector:
    """LIFT's order (section 4.1): step s tunes layer s mod N, counted from the front or the end, or a random layer.

    A turn may last several ``steps``, and be of a ``group`` of neighbours, in which the first layer follows the last.
    """

    def select(model: LayeredModel, batches: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        count = len(model)
        start = int(torch.randint(count, (), generator=generator)) if order == "random" else step // steps * group
        layers = {(start + i) % count for i in range(group)}
        return Selection(tuple(sorted({count - 1 - n for n in layers} if order == "end_to_front" else layers)), {})

    return select


def in_cycles(order: Order, steps: int) -> Selector:
    """BAdam's order: a turn of each layer in every cycle; a turn lasts ``steps`` steps.

    A random order is drawn anew for each cycle; it is logged, one place of a turn for each layer.
    """

    def select(model: LayeredModel, evidence: Evidence, step: int, generator: torch.Generator) -> Selection:
        if order != "random":
            return one_by_one(order, steps)(model, evidence, step, generator)
        turn = step // steps % len(model)
        drawn = torch.randperm(len(model), generator=generator).tolist() if turn == 0 else evidence.before["turn"]
        return Selection((drawn.index(turn),), {"turn": [float(place) for place in drawn]})

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


def ends_and_drawn(gamma: int, chances: Judge | None = None) -> Selector:
    """The first and the last layer, and γ drawn from *all* of them: where an end is drawn, fewer are tuned.

    By default all are equally likely; else in proportion to scores of the source model, of which those of 0 are drawn
    only when no others are left. Raises UserError where the model has fewer than γ layers.
    """

    def select(model: LayeredModel, evidence: Evidence, step: int, generator: torch.Generator) -> Selection:
        count = len(model)
        if gamma > count:
            raise UserError(f"gamma {gamma}: the model has {count} layers")
        scores: dict[str, list[float]] = {}
        weights = torch.ones(count, dtype=torch.float64)
        if chances is not None:
            scores = dict(evidence.before) or best(chances)(model, evidence, step, generator).scores
            (values,) = scores.values()
            weights = torch.tensor(values, dtype=torch.float64) / max(sum(values), LEAST) + LEAST
        drawn = torch.multinomial(weights, gamma, generator=generator).tolist()
        return Selection(tuple(sorted({0, *drawn, count - 1})), scores)

    return select
