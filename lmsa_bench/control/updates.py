"""How the chosen layers change on one batch: plain Adam, or the Method of Successive Approximations."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from lmsa_bench.control.hamiltonian import Reduction, augmented_hamiltonian
from lmsa_bench.control.trajectory import Loss, cross_entropy, trajectory
from lmsa_bench.models.layered import LayeredModel


class Update(Protocol):
    """Changes layers of the model it was made for; owns its optimiser."""

    optimizer: torch.optim.Optimizer

    def step(self, x: Tensor, target: Tensor, layers: Sequence[int], start: int = 0) -> Tensor:
        """One update from states x = x_start (K, …) of these layers, none below start; the mean loss before it."""


def _adam(model: LayeredModel, **options: Any) -> torch.optim.Optimizer:
    # It holds every layer from the start, and skips those without a gradient: a layer that is drawn late is in it, and
    # each parameter's moments wait for its next turn.
    parameters = [p for n in range(len(model)) for p in model.parameters_of(n)]
    fused = not parameters[0].is_meta  # a plan counts costs without data
    return torch.optim.Adam(parameters, fused=fused, **options)


class Adam:
    """Steps of Adam on the mean loss over the tuned layers' parameters.

    ``steps`` are taken on each batch; ``keep_state`` False drops the moments of a layer that is no longer tuned.
    """

    def __init__(
        self,
        model: LayeredModel,
        lr: float,
        weight_decay: float = 0.0,
        steps: int = 1,
        keep_state: bool = True,
        loss: Loss = cross_entropy,
    ) -> None:
        self.model, self.steps, self.keep_state, self.loss = model, steps, keep_state, loss
        self.optimizer = _adam(model, lr=lr, weight_decay=weight_decay)

    def step(self, x: Tensor, target: Tensor, layers: Sequence[int], start: int = 0) -> Tensor:
        """See Update."""
        if not self.keep_state:
            for n in set(range(len(self.model))).difference(layers):
                for parameter in self.model.parameters_of(n):
                    self.optimizer.state.pop(parameter, None)
        first = None
        for _ in range(self.steps):
            loss = self.loss(self.model.run(x, start), target).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            first = loss.detach() if first is None else first
        assert first is not None
        return first


class MSA:
    """Raises the augmented Hamiltonian of each tuned layer, with states and co-states of one snapshot (Jacobi).

    ``inner_steps`` steps of Adam a layer and batch evaluate that layer alone; ``reset_state`` starts Adam anew on each
    batch; the running cost is L(θ) = ½ · weight_decay · ‖θ‖².
    """

    def __init__(
        self,
        model: LayeredModel,
        lr: float,
        rho: float,
        inner_steps: int = 5,
        costate_penalty: bool = True,
        reduction: Reduction = "sum",
        weight_decay: float = 0.0,
        reset_state: bool = False,
        loss: Loss = cross_entropy,
    ) -> None:
        self.model, self.inner_steps, self.reset_state, self.loss = model, inner_steps, reset_state, loss
        self.weight_decay = weight_decay
        self.augmented = partial(augmented_hamiltonian, rho=rho, costate_penalty=costate_penalty, reduction=reduction)
        self.optimizer = _adam(model, lr=lr, maximize=True)

    def step(self, x: Tensor, target: Tensor, layers: Sequence[int], start: int = 0) -> Tensor:
        """See Update."""
        t = trajectory(self.model, x, target, self.loss, start, min(layers))
        if self.reset_state:
            self.optimizer.state.clear()
        for n in layers:
            parameters = self.model.parameters_of(n)
            for _ in range(self.inner_steps):
                running_cost = 0.5 * self.weight_decay * sum(p.square().sum() for p in parameters)
                h = self.augmented(
                    self.model.layers[n],
                    t.state(n),
                    t.state(n + 1),
                    t.costate(n),
                    t.costate(n + 1),
                    running_cost=running_cost if self.weight_decay else 0.0,
                )
                self.optimizer.zero_grad()
                # Not autograd.grad: fused Adam misreads gradients whose strides differ from the parameter's.
                h.backward(inputs=parameters)
                self.optimizer.step()
            self.optimizer.zero_grad()
        return t.losses.mean()
