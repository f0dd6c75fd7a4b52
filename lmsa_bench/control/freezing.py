"""Freezing from the front, by how much the gradients of training still change (AutoFreeze)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmsa_bench.control.evidence import Evidence
from lmsa_bench.control.selectors import Selection, Selector
from lmsa_bench.control.trajectory import Loss, cross_entropy
from lmsa_bench.control.updates import Adam
from lmsa_bench.models.layered import LayeredModel


class Gathering(Adam):
    """Adam that adds up the gradients of its steps until the next selection; it starts anew once layers are frozen."""

    def __init__(self, model: LayeredModel, lr: float, weight_decay: float = 0.0, loss: Loss = cross_entropy) -> None:
        super().__init__(model, lr, weight_decay, loss=loss)
        self.sums: dict[int, list[Tensor]] = {}  # by layer, one tensor for each of its parameters
        self.before: dict[int, float] = {}  # each layer's length at the last selection

    def apply(self) -> None:
        """See Adam."""
        for n in range(len(self.model)):
            gradients = [p.grad for p in self.model.parameters_of(n) if p.requires_grad and p.grad is not None]
            if gradients:
                sums = self.sums.get(n) or [torch.zeros_like(g) for g in gradients]
                self.sums[n] = [total + g for total, g in zip(sums, gradients, strict=True)]
        super().apply()

    def lengths(self) -> dict[int, float]:
        """By layer the 1-norm of the gradients' sum."""
        return {n: float(sum(total.abs().sum() for total in sums)) for n, sums in self.sums.items()}

    def selected(self, selection: Selection) -> None:
        """See Informed."""
        self.before, self.sums = self.lengths(), {}
        if len(selection.layers) < len(self.model):
            self.optimizer.state.clear()

    def state_dict(self) -> dict[str, Any]:
        """See Update."""
        return super().state_dict() | {"sums": self.sums, "before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Update."""
        super().load_state_dict(state)
        self.sums, self.before = state["sums"], state["before"]


def from_the_front(percentile: float) -> Selector:
    """All layers from the first one, among those not yet frozen, whose change is at least the percentile of theirs.

    The change is |‖G‖₁ before − ‖G‖₁| / ‖G‖₁ before, G the sum of gradients since the last selection (``Gathering``).
    """

    def select(model: LayeredModel, evidence: Evidence, step: int, generator: torch.Generator) -> Selection:
        update = evidence.update
        now = update.lengths() if isinstance(update, Gathering) else {}
        if not isinstance(update, Gathering) or not update.before:
            return Selection(tuple(range(len(model))), {})
        # A layer whose gradients were all 0 does not change.
        changes = {n: abs(1 - length / b) if (b := update.before[n]) else 0.0 for n, length in sorted(now.items())}
        least = np.percentile(list(changes.values()), percentile)
        start = next(n for n, change in changes.items() if change >= least)
        return Selection(tuple(range(start, len(model))), {})

    return select
