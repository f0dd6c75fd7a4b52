"""Selectors that give each tensor a rate of its own, as the code of surgical fine-tuning does (Lee et al., 2022)."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

import torch
from torch import Tensor

from lmsa_bench.control.criteria import Batch, first
from lmsa_bench.control.gradient_criteria import SNR_EPSILON
from lmsa_bench.control.selectors import Selection, Selector
from lmsa_bench.control.trajectory import Loss, cross_entropy
from lmsa_bench.models.layered import LayeredModel

THRESHOLD = 0.95  # of the published Auto-SNR


def without_bn(model: LayeredModel, draw: torch.Generator) -> None:
    """Leaves out the tensors with "bn" in their names, which the published code never changes."""
    model.restrict(lambda name, module: "bn" not in name)


def relative(batches: int = 5, loss: Loss = cross_entropy) -> Selector:
    """Rates ‖g‖/‖θ‖ of each tensor, the mean over the batches, divided by the largest.

    A tensor that is all 0 has no ratio and rate 0: as published, every rate would then be 0 or undefined.
    """

    def ratio(g: Tensor, theta: Tensor) -> float:
        length = theta.norm()
        return float(g.norm() / length) if length else 0.0

    return _by_tensor(ratio, lambda ratios: [r / (max(ratios) or 1.0) for r in ratios], batches, loss)


def steady(batches: int = 5, loss: Loss = cross_entropy) -> Selector:
    """Rates 1 where the mean of g² / (variance of g over dim 0 + 1e-8), averaged over the batches, is at least 0.95.

    Else 0. A tensor of one row has no variance, and, as published, rate 1.
    """

    def ratio(g: Tensor, theta: Tensor) -> float:
        variance = g.var(0, keepdim=True) if len(g) > 1 else math.nan
        return float((g.square() / (variance + SNR_EPSILON)).mean())

    return _by_tensor(ratio, lambda ratios: [0.0 if r < THRESHOLD else 1.0 for r in ratios], batches, loss)


def _by_tensor(
    ratio: Callable[[Tensor, Tensor], float],
    rates_of: Callable[[Sequence[float]], Sequence[float]],
    batches: int,
    loss: Loss,
) -> Selector:
    def select(model: LayeredModel, tuning: Iterable[Batch], step: int, generator: torch.Generator) -> Selection:
        parameters = model.tunable()
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        rows = []
        for x, y in first(tuning, batches):
            gradients = torch.autograd.grad(loss(model(x), y).mean(), parameters)
            rows.append([ratio(g.double(), p.detach().double()) for g, p in zip(gradients, parameters, strict=True)])
        rates = rates_of([fmean(column) for column in zip(*rows, strict=True)])
        moving = {id(p) for p, rate in zip(parameters, rates, strict=True) if rate}
        layers = [n for n in range(len(model)) if moving.intersection(map(id, model.parameters_of(n)))]
        return Selection(tuple(layers or range(len(model))), {}, tuple(rates))

    return select
