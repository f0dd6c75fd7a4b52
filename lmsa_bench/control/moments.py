"""Adam's moments of some parameters, and its steps, which torch's own function takes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

FIRST, SECOND, EPS = 0.9, 0.999, 1e-8  # as torch.optim.Adam has them


class Moments:
    """What torch.optim.Adam does, to the last bit; that class imports torch's compiler: 200 MiB and a second.

    It has every parameter from the start and skips those without a gradient: a layer that is selected later is trained
    too, and the moments of each parameter stay in ``state`` until it is selected again. ``rates`` are factors of
    ``lr``, one a parameter.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        maximize: bool = False,
        rates: Sequence[float] | None = None,
    ) -> None:
        self.parameters, self.weight_decay, self.maximize = parameters, weight_decay, maximize
        # Parameters that move in one call, and their learning rate.
        self.groups = [(lr, [*parameters])]
        if rates is not None:
            self.groups = [(lr * rate, [one]) for one, rate in zip(parameters, rates, strict=True)]
        self.state = dict[Tensor, dict[str, Tensor]]()

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters that have a gradient."""
        for lr, group in self.groups:
            moving = [parameter for parameter in group if parameter.grad is not None]
            if not moving:
                continue
            kept = [self._of(parameter) for parameter in moving]
            adam(
                moving,
                [parameter.grad for parameter in moving if parameter.grad is not None],
                [one["exp_avg"] for one in kept],
                [one["exp_avg_sq"] for one in kept],
                [],
                [one["step"] for one in kept],
                fused=not moving[0].is_meta,  # costs are counted on meta tensors
                amsgrad=False,
                beta1=FIRST,
                beta2=SECOND,
                lr=lr,
                weight_decay=self.weight_decay,
                eps=EPS,
                maximize=self.maximize,
            )

    def _of(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self.state:
            step = torch.tensor(0.0) if parameter.is_meta else torch.zeros((), device=parameter.device)
            first, second = torch.zeros_like(parameter), torch.zeros_like(parameter)
            self.state[parameter] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        return self.state[parameter]

    def state_dict(self) -> dict[str, Any]:
        """The moments by the parameters' places, and the learning rates, in the form of torch.optim's optimizers."""
        state = {n: dict(self.state[one]) for n, one in enumerate(self.parameters) if one in self.state}
        return {"state": state, "param_groups": [{"lr": lr} for lr, _ in self.groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them."""
        saved = state["state"].items()
        self.state = {self.parameters[n]: {name: kept.clone() for name, kept in one.items()} for n, one in saved}
        rates = [group["lr"] for group in state["param_groups"]]
        self.groups = [(lr, group) for lr, (_, group) in zip(rates, self.groups, strict=True)]
