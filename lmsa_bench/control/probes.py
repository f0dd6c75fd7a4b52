"""A probe of every layer's input: what still tells the classes apart there, tuning from there on can use."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.control.criteria import Batch, Criterion, Scores, first, largest
from lmsa_bench.models.layered import LayeredModel

RIDGE = 1e-2  # of the kernel's mean diagonal
DEEPER = 1e-6  # far below an accuracy's resolution: of equal ones the deeper layer leads


def probes(batches: int = 5) -> Criterion:
    """Accuracy of a linear probe of each layer's input x_n, every sample left out in turn, larger is better.

    The layers below such a layer keep what the classes are told by, so they need no tuning. The probe is a ridge
    regression of the labels, as columns of 0 and 1, on the centred states, in closed form: one forward pass, and a
    kernel of n samples a layer. Not published; developed on the suite ``development``'s tasks (docs/arena.md).
    """

    @torch.no_grad()
    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        inputs, labels = zip(*first(tuning, batches), strict=True)
        y, values = torch.cat(labels), list[float]()
        for n in range(len(model)):
            states = torch.cat(inputs).flatten(1).double()
            values.append(left_out_accuracy(states, y) + DEEPER * n)
            inputs = tuple(model.run(x, n, n + 1) for x in inputs)
        return largest("probes", values)

    return score


def left_out_accuracy(x: Tensor, y: Tensor) -> float:
    """The share of rows x (n, D) whose class y (n,) a ridge regression on the other rows finds."""
    x, targets = x - x.mean(0), F.one_hot(y).to(x.dtype)
    kernel, targets = x @ x.T, targets - targets.mean(0)
    ridge = RIDGE * kernel.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(kernel + ridge * torch.eye(len(x), dtype=x.dtype, device=x.device))
    found = targets - (inverse @ targets) / inverse.diagonal()[:, None]
    return float((found.argmax(1) == y).double().mean())
