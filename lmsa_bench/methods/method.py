"""A method is a selector, a schedule for selecting again, and an update; each file of this folder is one method."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from lmsa_bench.control.selectors import Selector
from lmsa_bench.control.state_views import StateView
from lmsa_bench.control.updates import Update
from lmsa_bench.models import LayeredModel
from lmsa_bench.registry import Registry

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Gt(0), Le(2**31 - 1)]


# L-MSA's defaults, shared by all methods with these hyper-parameters.
STATE_VIEW: StateView = "flat"
C = 0.001
RHO = 0.1
MSA_LR = 1e-2
INNER_STEPS = 5
BATCHES = 5  # of tuning samples, on which a criterion is computed


class Averaged:
    """Marks a hyper-parameter that is averaged over: a table row is the mean over its values, none is selected."""


@dataclass(frozen=True)
class Named:
    """Marks a hyper-parameter that is a name in a registry."""

    registry: Registry[Any]


@dataclass(frozen=True)
class Every:
    """Selects at step 0, and again every ``count`` steps or epochs (None: never again), ``times`` in all if given."""

    count: int | None = None
    unit: Literal["steps", "epochs"] = "epochs"
    times: int | None = None

    def due(self, step: int, steps_per_epoch: int) -> bool:
        """Whether layers are selected before this step; steps are counted from 0 over all epochs."""
        if self.count is None:
            return step == 0
        done, left = divmod(step, self.count * (1 if self.unit == "steps" else steps_per_epoch))
        return left == 0 and (self.times is None or done < self.times)

    def missed(self, epochs: int, steps_per_epoch: int) -> str | None:
        """A remark if layers are never selected again in a training of this length, else None."""
        if self.count is None or any(self.due(step, steps_per_epoch) for step in range(1, epochs * steps_per_epoch)):
            return None
        length = epochs * steps_per_epoch if self.unit == "steps" else epochs
        return f"its schedule never came due: {length} {self.unit}, every {self.count} {self.unit}"


Values = Mapping[str, Tensor]  # of parameters, by name


def as_it_is(model: LayeredModel, draw: torch.Generator) -> None:
    """Leaves the model unchanged: θ_n is all that the model says."""


@dataclass(frozen=True)
class Method:
    """Selector x update, and when to select again; ``update`` is None if nothing is trained."""

    select: Selector
    update: Callable[[LayeredModel], Update] | None
    every: Every = Every()
    rest: bool = False  # also tune the parameters that are in no θ_n, while all layers are tuned
    prepare: Callable[[LayeredModel, torch.Generator], None] = as_it_is  # says what θ_n is: a part, or new parameters
    # From the parameters before training and those of the best epoch, values that validation judges as one more epoch.
    finish: Callable[[Values, Values], Iterator[Values]] | None = None
