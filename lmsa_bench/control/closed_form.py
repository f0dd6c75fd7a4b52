"""Eq. 10 in closed form: the step that maximises p·g(θ) − ½ρ‖θ − θ_n‖² for a layer that is linear in θ."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmsa_bench.control.state_views import STATE_VIEWS, StateView
from lmsa_bench.control.trajectory import Loss, cross_entropy, trajectory
from lmsa_bench.models.layered import LayeredModel


class ClosedForm:
    """θ_n ← θ_n − (1/(c · ρ̂_n)) ∂J/∂θ_n on each tuned layer, with ρ̂_n (eq. 9) of the batch and J its summed loss.

    For a linear layer it is eq. 10's step exactly, the one that Ĵ_n predicts the loss of (proposition 3.1). All layers
    step from one trajectory (Jacobi). The view ``sample``, which has a ρ̂_n for each sample, has no such step.
    """

    def __init__(self, model: LayeredModel, c: float, state_view: StateView, loss: Loss = cross_entropy) -> None:
        self.model, self.c, self.view, self.loss = model, c, STATE_VIEWS[state_view], loss

    def step(self, x: Tensor, target: Tensor, layers: Sequence[int], start: int = 0) -> Tensor:
        """See Update."""
        model = self.model
        t = trajectory(model, x, target, self.loss, start, min(layers), layers)
        outputs, j = t.x[-1].flatten(1).shape[1], t.losses.double().sum()
        moves = []
        for n in layers:
            s = self.view(t.state(n), t.state(n + 1), t.costate(n + 1), model.reads[n])
            alpha = torch.where((s.prx2 == 0) | (j == 0), 0.0, 2 * j * s.r2 / (self.c * outputs * s.prx2))
            moves += [(p, alpha * rise) for p, rise in zip(model.parameters_of(n), t.rise[n], strict=True)]
        with torch.no_grad():
            for parameter, move in moves:
                parameter.add_(move)
        return t.losses.mean()

    def state_dict(self) -> dict[str, Any]:
        """See Update."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Update."""
