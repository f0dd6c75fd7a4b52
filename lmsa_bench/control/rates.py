"""Adam with a rate of its own for each tensor: by layer, by kind of parameter, or as a selection says."""

from collections.abc import Callable, Sequence

from lmsa_bench.control.moments import Moments
from lmsa_bench.control.selectors import Selection
from lmsa_bench.control.trajectory import Loss, cross_entropy
from lmsa_bench.control.updates import Adam
from lmsa_bench.models.layered import LayeredModel

Rates = Callable[[LayeredModel], Sequence[float]]
"""Factors of the learning rate, one for each of ``model.tunable()``."""


def equal(model: LayeredModel) -> list[float]:
    """1 for every tensor."""
    return [1.0] * len(model.tunable())


def by_layer(rate: Callable[[int, int], float]) -> Rates:
    """``rate(n, N)`` for the tensors of layer n of N; what is in no layer has the last one's."""

    def rates(model: LayeredModel) -> list[float]:
        count = len(model)
        found = [rate(n, count) for n in range(count) for _ in model.parameters_of(n)]
        return found + [rate(count - 1, count)] * len(model.rest())

    return rates


def by_name(rate: Callable[[str], float]) -> Rates:
    """``rate(name)`` for the tensor of that name in the network."""

    def rates(model: LayeredModel) -> list[float]:
        names = {id(parameter): name for name, parameter in model.source.named_parameters()}
        return [rate(names[id(parameter)]) for parameter in model.tunable()]

    return rates


class RatedAdam(Adam):
    """Adam whose learning rate is lr times a factor for each tensor.

    A selection with rates replaces the factors, and starts Adam anew.
    """

    def __init__(
        self,
        model: LayeredModel,
        lr: float,
        rates: Rates = equal,
        weight_decay: float = 0.0,
        loss: Loss = cross_entropy,
    ) -> None:
        super().__init__(model, lr, weight_decay, loss=loss)
        self.lr, self.weight_decay = lr, weight_decay
        self._start(rates(model))

    def selected(self, selection: Selection) -> None:
        """See Informed."""
        if selection.rates:
            self._start(selection.rates)

    def _start(self, rates: Sequence[float]) -> None:
        self.optimizer = Moments(self.model.tunable(), self.lr, self.weight_decay, rates=rates)
