"""States forward, co-states backward (section 2.1; Hamilton's equations 4 in discrete time)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.models.layered import LayeredModel

Loss = Callable[[Tensor, Tensor], Tensor]
"""Φ: outputs x_N (K, d') and targets to one loss a sample, (K,)."""


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Φ_i of logits (K, d') and class indices (K,): one loss a sample, in nats."""
    return F.cross_entropy(output, target, reduction="none")


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Φ_i = ½‖y − x_N‖² of the deep linear network (section 3): one loss a sample."""
    return 0.5 * (target - output).square().sum(1)


@dataclass(frozen=True)
class Trajectory:
    """States x_first..x_N, co-states p_n = −∂J/∂x_n of the summed loss J, and the samples' losses; all detached."""

    first: int
    x: tuple[Tensor, ...]
    p: tuple[Tensor, ...]
    losses: Tensor

    def state(self, n: int) -> Tensor:
        """x_n (K, …)."""
        return self.x[n - self.first]

    def costate(self, n: int) -> Tensor:
        """p_n (K, …)."""
        return self.p[n - self.first]


def trajectory(
    model: LayeredModel, x: Tensor, target: Tensor, loss: Loss = cross_entropy, start: int = 0, first: int = 0
) -> Trajectory:
    """One forward from x = x_start and one backward down to x_first (start ≤ first); layers below leave no graph."""
    with torch.no_grad():
        x = model.run(x, start, first)
    states = [x.detach().requires_grad_()]
    for n in range(first, len(model)):
        states.append(model.run(states[-1], n, n + 1))
    losses = loss(states[-1], target)
    gradients = torch.autograd.grad(losses.sum(), states)
    return Trajectory(first, tuple(s.detach() for s in states), tuple(-g for g in gradients), losses.detach())
