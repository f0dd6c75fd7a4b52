"""A user's method: Adam on the head, plus a low-rank correction whose state is not in the optimiser."""

from functools import partial

import torch

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import Method, Positive


class Lora(Adam):
    """Adds b·a, which it trains with its own momentum, to the head's weight (classes, features)."""

    def __init__(self, model, lr):
        super().__init__(model, lr)
        draw = torch.Generator().manual_seed(0)
        self.weight = model.parameters_of(len(model) - 1)[0]
        classes, features = self.weight.shape
        self.a, self.b = torch.randn(2, features, generator=draw), torch.zeros(classes, 2)
        self.velocity = torch.zeros(classes, 2)

    def step(self, x, target, layers, start=0):
        loss = super().step(x, target, layers, start)
        with torch.no_grad():
            before = self.b @ self.a
            self.velocity = 0.9 * self.velocity + self.weight.grad @ self.a.T
            self.b = self.b - 0.01 * self.velocity
            self.weight += self.b @ self.a - before
        return loss


class Complete(Lora):
    """The same, saving its whole state."""

    def state_dict(self):
        return super().state_dict() | {"b": self.b, "velocity": self.velocity}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.b, self.velocity = state["b"], state["velocity"]


class Forgetful(Complete):
    """The same, but it does not restore all of its state."""

    def load_state_dict(self, state):
        super().load_state_dict(state | {"velocity": torch.zeros_like(self.velocity)})


def lora_head(lr: Positive = 0.01) -> Method:
    """Saves only its optimiser's state."""
    return Method(selectors.only(-1), partial(Lora, lr=lr))


def complete_head(lr: Positive = 0.01) -> Method:
    """Saves and restores its whole state."""
    return Method(selectors.only(-1), partial(Complete, lr=lr))


def forgetful_head(lr: Positive = 0.01) -> Method:
    """Saves its whole state, but does not restore all of it."""
    return Method(selectors.only(-1), partial(Forgetful, lr=lr))
