"""How the selected layers are updated on a batch: Adam, or the Method of Successive Approximations (section 2)."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lmsa_bench.control.hamiltonian import Reduction, augmented_hamiltonian
from lmsa_bench.control.moments import Moments
from lmsa_bench.control.selectors import Selection
from lmsa_bench.control.trajectory import Loss, cross_entropy, trajectory
from lmsa_bench.models.layered import LayeredModel


class Update(Protocol):
    """Updates layers of the model that it was constructed with; owns all state that persists between steps."""

    def step(self, x: Tensor, target: Tensor, layers: Sequence[int], start: int = 0) -> Tensor:
        """Updates these layers, all ≥ start, from states x = x_start (K, …); returns the mean loss before it."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, except the model's parameters: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of an update of the same class, on the same model."""


@runtime_checkable
class Informed(Protocol):
    """An update that is told of each selection before the steps that follow it."""

    def selected(self, selection: Selection) -> None:
        """Takes note of it; ``load_state_dict`` restores what was taken note of."""


def unsaved(kind: type) -> str | None:
    """Why updates of this class cannot be resumed, or None if they can.

    A class that overrides ``step`` may have state that its base class does not save, so it must also override
    ``state_dict`` and ``load_state_dict``.
    """
    names: tuple[str, ...] = ("state_dict", "load_state_dict")
    for one in kind.__mro__:
        names = tuple(name for name in names if name not in vars(one))
        if "step" in vars(one):
            return f"{one.__name__}.step has no {' and no '.join(names)} of its own" if names else None
    return f"{kind.__name__} has no step"


class Adam:
    """Adam on the mean loss, over the parameters of the tuned layers.

    Each batch is used for ``steps`` steps; without ``keep_state``, a layer that is no longer tuned loses its moments.
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
        self.optimizer = Moments(model.tunable(), lr, weight_decay)

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
            self.apply()
            first = loss.detach() if first is None else first
        assert first is not None
        return first

    def apply(self) -> None:
        """Moves the tuned parameters, whose gradients are there."""
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """See Update."""
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Update."""
        self.optimizer.load_state_dict(state["optimizer"])


class MSA:
    """Maximises each tuned layer's augmented Hamiltonian (section 2.1, after eq. 7), from one trajectory (Jacobi).

    Adam takes ``inner_steps`` steps per layer and batch, which evaluate that layer alone; ``reset_state`` discards its
    moments before each batch; the running cost is L(θ) = ½ · weight_decay · ‖θ‖².
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
        self.rho, self.weight_decay = rho, weight_decay
        self.costate_penalty, self.reduction = costate_penalty, reduction
        self.optimizer = Moments(model.tunable(), lr, maximize=True)

    def step(self, x: Tensor, target: Tensor, layers: Sequence[int], start: int = 0) -> Tensor:
        """See Update."""
        t = trajectory(self.model, x, target, self.loss, start, min(layers), layers)
        if self.reset_state:
            self.optimizer.state.clear()
        for n in layers:
            parameters = self.model.parameters_of(n)
            # The first step costs nothing: at the snapshot both penalties and their gradients are 0.
            for parameter, rise in zip(parameters, t.rise[n], strict=True):
                rise = rise / len(x) if self.reduction == "mean" else rise
                # In the parameter's own layout: fused Adam misreads other strides.
                parameter.grad = torch.empty_like(parameter).copy_(rise - self.weight_decay * parameter.detach())
            self.optimizer.step()
            for _ in range(1, self.inner_steps):
                running_cost = 0.5 * self.weight_decay * sum(p.square().sum() for p in parameters)
                h = augmented_hamiltonian(
                    self.model.layers[n],
                    t.state(n),
                    t.state(n + 1),
                    t.costate(n),
                    t.costate(n + 1),
                    self.rho,
                    running_cost if self.weight_decay else 0.0,
                    self.costate_penalty,
                    self.reduction,
                )
                self.optimizer.zero_grad()
                # Not autograd.grad, whose gradients may have strides of their own.
                h.backward(inputs=parameters)
                self.optimizer.step()
            self.optimizer.zero_grad()
        return t.losses.mean()

    def state_dict(self) -> dict[str, Any]:
        """See Update."""
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Update."""
        self.optimizer.load_state_dict(state["optimizer"])
