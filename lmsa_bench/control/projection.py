"""Fast trainable projection: each step ends inside a ball around θ_0 whose radius Adam learns (FTP)."""

from typing import Any

import torch
from torch import Tensor

from lmsa_bench.control.anchored import Anchored
from lmsa_bench.control.trajectory import Loss, cross_entropy
from lmsa_bench.models.layered import LayeredModel

EPSILON = 1e-8  # the first radius, the smallest, and what is added to norms
BETAS = (0.9, 0.999)


class TrainableProjection(Anchored):
    """Adam, after which the distance of each row of a tensor to θ_0, in the 1-norm, is at most the tensor's radius γ.

    γ has one Adam step of size ``radius_lr`` a step, by ∂J/∂γ = Σ_rows g·c/‖c‖₁, c the step before's θ − θ_0 ahead of
    its projection; a positive derivative, which shrinks γ, counts ``anneal`` times.
    """

    def __init__(
        self, model: LayeredModel, lr: float, radius_lr: float, anneal: float, loss: Loss = cross_entropy
    ) -> None:
        super().__init__(model, lr, loss=loss)
        self.radius_lr, self.anneal, self.steps_taken = radius_lr, anneal, 0
        # By the tensor's place: its radius and that one's two moments (3,), c, and 1/‖c‖₁ of each row.
        self.radii: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def apply(self) -> None:
        """See Adam."""
        self.steps_taken += 1
        super().apply()
        for i, (parameter, origin) in enumerate(zip(self.parameters, self.origin, strict=True)):
            if parameter.grad is None:
                continue
            c = parameter - origin
            norms = _by_row(c.abs()) + EPSILON
            if i in self.radii:
                before, c_before, scale_before = self.radii[i]
                slope = (_by_row(parameter.grad * c_before) * scale_before).sum()
                radius = self._learned(before, torch.where(slope > 0, self.anneal * slope, slope), norms.max())
            else:
                radius = torch.stack([norms.new_tensor(EPSILON), norms.new_tensor(0.0), norms.new_tensor(0.0)])
            parameter.copy_(origin + (radius[0] / norms).clamp(0, 1) * c)
            self.radii[i] = radius, c, 1 / norms

    def _learned(self, before: Tensor, slope: Tensor, most: Tensor) -> Tensor:
        radius, first, second = before
        first = BETAS[0] * first + (1 - BETAS[0]) * slope
        second = BETAS[1] * second + (1 - BETAS[1]) * slope.square()
        # As published, the step's number corrects the moments, which have taken one step less.
        mean, square = first / (1 - BETAS[0] ** self.steps_taken), second / (1 - BETAS[1] ** self.steps_taken)
        moved = radius - self.radius_lr * mean / (square.sqrt() + EPSILON)
        return torch.stack([torch.minimum(moved.clamp(min=EPSILON), most), first, second])

    def state_dict(self) -> dict[str, Any]:
        """See Update."""
        return super().state_dict() | {"radii": self.radii, "steps_taken": self.steps_taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Update."""
        super().load_state_dict(state)
        self.radii, self.steps_taken = state["radii"], state["steps_taken"]


def _by_row(values: Tensor) -> Tensor:
    """Sums over all but the first dimension, which stays; a vector, as published, is one row."""
    return values.sum(tuple(range(1, values.ndim)) or None, keepdim=True)
