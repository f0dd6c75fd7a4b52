"""Adam that is held near θ_0, the parameters before training: a penalty, a decay, or a projection."""

from typing import Any

import torch

from lmsa_bench.control.trajectory import Loss, cross_entropy
from lmsa_bench.control.updates import Adam
from lmsa_bench.models.layered import LayeredModel


class Anchored(Adam):
    """Adam that keeps a copy of θ_0, one tensor for each of ``model.tunable()``."""

    def __init__(self, model: LayeredModel, lr: float, weight_decay: float = 0.0, loss: Loss = cross_entropy) -> None:
        super().__init__(model, lr, weight_decay, loss=loss)
        self.parameters = model.tunable()
        self.origin = [parameter.detach().clone() for parameter in self.parameters]

    def state_dict(self) -> dict[str, Any]:
        """See Update."""
        return super().state_dict() | {"origin": self.origin}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Update."""
        super().load_state_dict(state)
        self.origin = state["origin"]


class SquaredDistance(Anchored):
    """The loss has the penalty ½λ‖θ − θ_0‖² besides (L2-SP)."""

    def __init__(self, model: LayeredModel, lr: float, penalty: float, loss: Loss = cross_entropy) -> None:
        super().__init__(model, lr, loss=loss)
        self.penalty = penalty

    @torch.no_grad()
    def apply(self) -> None:
        """See Adam."""
        for parameter, origin in zip(self.parameters, self.origin, strict=True):
            if parameter.grad is not None:
                parameter.grad += self.penalty * (parameter - origin)
        super().apply()


class SelectiveDecay(Anchored):
    """A step that leads a tensor away from θ_0 is taken back in part (SPD).

    Where ⟨g, θ − θ_0⟩ > 0 for the gradient g before the step, θ' after it moves by −λ · clip(1 − ‖θ − θ_0‖/‖θ' − θ_0‖,
    0, 1) · (θ' − θ_0).
    """

    def __init__(self, model: LayeredModel, lr: float, decay: float, loss: Loss = cross_entropy) -> None:
        super().__init__(model, lr, loss=loss)
        self.decay = decay

    @torch.no_grad()
    def apply(self) -> None:
        """See Adam."""
        tuned = [(p, o, p - o) for p, o in zip(self.parameters, self.origin, strict=True) if p.grad is not None]
        super().apply()
        for parameter, origin, before in tuned:
            assert parameter.grad is not None
            after = parameter - origin
            length = after.norm()
            ratio = torch.where(length > 0, 1 - before.norm() / length, 0.0).clamp(0, 1)
            away = (parameter.grad * before).sum() > 0
            parameter.sub_(torch.where(away, self.decay * ratio, 0.0) * after)
