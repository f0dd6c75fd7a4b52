"""Rules that try layers out: each is tuned on a copy for a while, and judged by samples that it was not tuned on."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice

import torch

from lmsa_bench.control.criteria import Batch, Scores, first, largest, smallest
from lmsa_bench.control.evidence import Evidence, Judge
from lmsa_bench.control.selectors import Selection, Selector
from lmsa_bench.control.trajectory import cross_entropy
from lmsa_bench.control.updates import Adam
from lmsa_bench.errors import UserError
from lmsa_bench.models.layered import LayeredModel


class Tried:
    """A copy of a model of which some layers are tuned; what is below the lowest of them runs once a batch."""

    def __init__(self, model: LayeredModel, layers: Sequence[int], lr: float) -> None:
        self.model, self.layers, self.start = copy.deepcopy(model), tuple(layers), min(layers)
        self.model.tune_only(layers)
        self.update = Adam(self.model, lr)

    def states(self, batches: Iterable[Batch]) -> list[Batch]:
        """The batches as states x_n that enter the lowest tuned layer."""
        with torch.no_grad():
            return [(self.model.run(x, 0, self.start), y) for x, y in batches]

    def tune(self, states: Iterable[Batch]) -> None:
        """One step of Adam on each."""
        for x, y in states:
            self.update.step(x, y, self.layers, self.start)

    @torch.no_grad()
    def judge(self, states: Iterable[Batch]) -> tuple[float, float]:
        """Accuracy, a fraction, and mean loss in nats."""
        correct = loss = count = 0.0
        for x, y in states:
            outputs = self.model.run(x, self.start)
            correct += (outputs.argmax(1) == y).sum().item()
            loss += cross_entropy(outputs, y).double().sum().item()
            count += len(y)
        return correct / count, loss / count


def steps_ahead(steps: int = 8, lr: float = 1e-2) -> Judge:
    """The loss on half of the tuning batches after ``steps`` real steps of Adam on the other half, smaller is better.

    For each layer alone, in nats; a single batch is halved. Raises UserError where there is one sample.
    """
    return _ahead("steps_ahead", steps, lr)


def one_step_ahead(lr: float = 1e-2) -> Judge:
    """The same after a single step."""
    return _ahead("one_step_ahead", 1, lr)


def _ahead(name: str, steps: int, lr: float) -> Judge:
    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        batches = list(first(tuning))
        return smallest(name, [loss_ahead(model, n, batches, steps, lr) for n in range(len(model))])

    return score


def loss_ahead(model: LayeredModel, n: int, batches: Sequence[Batch], steps: int, lr: float) -> float:
    """The mean loss on every second batch after steps of layer n on the others; raises UserError for one sample."""
    if len(batches) == 1:
        x, y = batches[0]
        if len(y) < 2:
            raise UserError("a layer is judged on other samples than it is tried on: there must be at least two")
        batches = [(x[::2], y[::2]), (x[1::2], y[1::2])]
    tried = Tried(model, [n], lr)
    tried.tune(islice(cycle(tried.states(batches[::2][:steps])), steps))
    return tried.judge(tried.states(batches[1::2]))[1]


def one_epoch(epochs: int = 1, lr: float = 1e-2) -> Judge:
    """Validation accuracy after each layer was tuned alone for an epoch, larger is better; ties by the lower loss."""

    def score(model: LayeredModel, evidence: Evidence) -> Scores:
        batches, validation = list(first(evidence)), list(evidence.validation())
        found = []
        for n in range(len(model)):
            tried = Tried(model, [n], lr)
            states = tried.states(batches)
            for _ in range(epochs):
                tried.tune(states)
            found.append(tried.judge(tried.states(validation)))
        return largest("one_epoch", list(map(_worth, found)))

    return score


def halving(lr: float = 1e-2) -> Judge:
    """Successive halving of the layers by validation accuracy (Jamieson & Talwalkar, 2016), larger is better.

    Every layer left is tuned on, for 1, 2, 4 … epochs, and the better half stays until one is left. A value is the
    number of rounds that a layer came through, plus its accuracy in the last one.
    """

    def score(model: LayeredModel, evidence: Evidence) -> Scores:
        batches, validation = list(first(evidence)), list(evidence.validation())
        tried = {n: Tried(model, [n], lr) for n in range(len(model))}
        tuning = {n: one.states(batches) for n, one in tried.items()}
        judging = {n: one.states(validation) for n, one in tried.items()}
        values, left, epochs, rounds = [0.0] * len(model), list(tried), 1, 0
        while len(left) > 1:
            for n in left:
                for _ in range(epochs):
                    tried[n].tune(tuning[n])
                values[n] = rounds + _worth(tried[n].judge(judging[n])) / 2  # below 1, so that a round counts more
            left = sorted(left, key=lambda n: -values[n])[: math.ceil(len(left) / 2)]
            epochs, rounds = 2 * epochs, rounds + 1
        return largest("halving", values)

    return score


def greedy(lr: float, epochs: int, epsilon: float) -> Selector:
    """SubTuning's search from nothing: add the layer with which validation accuracy is best, keep the best set so far.

    It ends once a round's best is more than ε below that, or all are in. Each candidate is tuned for ``epochs`` epochs
    from the source model. Where no set is better than the source model, the best single layer.
    """

    def select(model: LayeredModel, evidence: Evidence, step: int, generator: torch.Generator) -> Selection:
        batches, validation = list(first(evidence)), list(evidence.validation())

        def accuracy(layers: Sequence[int]) -> float:
            tried = Tried(model, layers, lr)
            states = tried.states(batches)
            for _ in range(epochs):
                tried.tune(states)
            return tried.judge(tried.states(validation))[0]

        source = Tried(model, range(len(model)), lr).judge(validation)[0]
        kept, singles = search(len(model), accuracy, source, epsilon)
        return Selection(kept or (singles.index(max(singles)),), {"validation_accuracy": singles})

    return select


def search(
    count: int, accuracy: Callable[[Sequence[int]], float], source: float, epsilon: float
) -> tuple[tuple[int, ...], list[float]]:
    """The best set of layers below ``count`` on a greedy path from none, and each layer's accuracy alone.

    The set is empty where none is above ``source``, the accuracy without tuning.
    """
    chosen: tuple[int, ...] = ()
    best, kept, singles = source, chosen, list[float]()
    while len(chosen) < count:
        found = {n: accuracy(sorted((*chosen, n))) for n in range(count) if n not in chosen}
        singles = singles or list(found.values())
        chosen = tuple(sorted((*chosen, max(found, key=found.__getitem__))))
        reached = max(found.values())
        if reached > best:
            best, kept = reached, chosen
        elif reached < best - epsilon:
            break
    return kept, singles


def _worth(judged: tuple[float, float]) -> float:
    """Accuracy, and far below its resolution the loss, so that equal accuracies are told apart."""
    accuracy, loss = judged
    return accuracy - 1e-6 * math.tanh(loss) if math.isfinite(loss) else math.nan
