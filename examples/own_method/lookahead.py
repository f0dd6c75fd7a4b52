"""A method with an update of its own: Lookahead (Zhang et al., 2019) around Adam."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lmsa_bench.control import selectors
from lmsa_bench.control.updates import Adam
from lmsa_bench.methods import METHODS, Count, Method, Positive
from lmsa_bench.models import LayeredModel


class Lookahead(Adam):
    """Every k steps the slow weights go a part α of the way to the fast ones, which start again from there."""

    def __init__(self, model: LayeredModel, lr: float, k: int, alpha: float) -> None:
        super().__init__(model, lr=lr)
        self.k, self.alpha, self.done = k, alpha, 0
        self.slow = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def step(self, x: Tensor, target: Tensor, layers: Sequence[int], start: int = 0) -> Tensor:
        loss = super().step(x, target, layers, start)
        self.done += 1
        if self.done % self.k == 0:
            with torch.no_grad():
                for name, fast in self.model.named_parameters():
                    fast.copy_(self.slow[name].lerp_(fast, self.alpha))
        return loss

    def state_dict(self) -> dict[str, Any]:  # all that it carries from step to step, so that a trial can resume
        return super().state_dict() | {"done": self.done, "slow": self.slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.done, self.slow = state["done"], state["slow"]


@METHODS.register
def lookahead(lr: Positive, k: Count = 5, alpha: Positive = 0.5) -> Method:
    """Tunes every layer with Lookahead around Adam."""
    return Method(selectors.every_layer(), partial(Lookahead, lr=lr, k=k, alpha=alpha))
