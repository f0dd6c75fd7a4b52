"""States forward, co-states backward: Hamilton's equations (eq. 4) in discrete time (section 2.1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.models.layered import LayeredModel

Loss = Callable[[Tensor, Tensor], Tensor]
"""Φ: maps outputs x_N (K, d') and targets to one loss per sample, (K,)."""


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Φ_i of logits (K, d') and class indices (K,): one loss per sample, (K,), in nats."""
    return F.cross_entropy(output, target, reduction="none")


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Φ_i = ½‖y − x_N‖² of outputs and targets (K, d') (section 3): one loss per sample, (K,)."""
    return 0.5 * (target - output).square().sum(1)


@dataclass(frozen=True)
class Trajectory:
    """States x_first..x_N, co-states p_n = −∂J/∂x_n of the summed loss J, and each sample's loss (K,); all detached.

    ``rise[n]`` is ∂H_n/∂θ_n = −∂J/∂θ_n of a tuned layer, one tensor a parameter.
    """

    first: int
    x: tuple[Tensor, ...]
    p: tuple[Tensor, ...]
    losses: Tensor
    rise: Mapping[int, tuple[Tensor, ...]]

    def state(self, n: int) -> Tensor:
        """x_n (K, …)."""
        return self.x[n - self.first]

    def costate(self, n: int) -> Tensor:
        """p_n (K, …)."""
        return self.p[n - self.first]


def trajectory(
    model: LayeredModel,
    x: Tensor,
    target: Tensor,
    loss: Loss = cross_entropy,
    start: int = 0,
    first: int = 0,
    tuned: Sequence[int] = (),
) -> Trajectory:
    """One forward from x = x_start (K, …) and one backward to x_first (start ≤ first), without a graph below first.

    The same backward gives the gradients of the ``tuned`` layers (≥ first).
    """
    with torch.no_grad():
        x = model.run(x, start, first)
    states = [x.detach().requires_grad_()]
    for n in range(first, len(model)):
        states.append(model.run(states[-1], n, n + 1))
    losses = loss(states[-1], target)
    theta = [model.parameters_of(n) for n in tuned]
    found = iter(torch.autograd.grad(losses.sum(), [*states, *chain(*theta)], materialize_grads=True))
    p = tuple(-next(found) for _ in states)
    rise = {n: tuple(-g for g in islice(found, len(own))) for n, own in zip(tuned, theta, strict=True)}
    return Trajectory(first, tuple(s.detach() for s in states), p, losses.detach(), rise)
