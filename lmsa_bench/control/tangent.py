"""How well a layer's tangent kernel predicts labels that it has not seen: what tuning it could learn, linearly."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.control.criteria import Batch, Criterion, Scores, first, smallest
from lmsa_bench.models.layered import LayeredModel

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the kernel's mean diagonal; the best one of each layer counts


def tangent(batches: int = 2) -> Criterion:
    """Mean squared error of the classes' probabilities, each sample left out, by layer n's kernel; smaller is better.

    The kernel of two samples is the product of their gradients ∂(v·x_N)/∂θ_n with v = (−1, 1, −1, …); a kernel ridge
    regression of one-hot labels minus the source model's probabilities is solved in closed form. Not published. Beside
    a forward and a backward a sample it takes all products of n gradients, n² · |θ|: dear where the network is small.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        layers = range(len(model))
        model.tune_only(layers)
        parameters = [model.parameters_of(n) for n in layers]
        outputs, labels, rows = [], [], list[list[Tensor]]()
        for x, y in first(tuning, batches):
            for i in range(len(y)):  # one at a time: what maps over samples is counted several times as dear
                output = model(x[i : i + 1])
                direction = 2 * (torch.arange(output.shape[1], device=x.device) % 2) - 1
                gradients = iter(torch.autograd.grad((output * direction).sum(), [p for ps in parameters for p in ps]))
                rows.append([torch.cat([g.flatten() for g in islice(gradients, len(ps))]) for ps in parameters])
                outputs.append(output.detach())
            labels.append(y)
        logits = torch.cat(outputs)
        residual = (F.one_hot(torch.cat(labels), logits.shape[1]) - logits.softmax(1)).double()
        values = []
        for n in layers:
            own = torch.stack([row[n] for row in rows]).double()
            values.append(left_out_error(own @ own.T, residual))
        return smallest("tangent", values)

    return score


def left_out_error(kernel: Tensor, targets: Tensor) -> float:
    """Mean squared error of kernel ridge regression on samples left out one by one: (n, n), (n, C); best ridge."""
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    errors = []
    for ridge in RIDGES:
        inverse = torch.linalg.inv(kernel + ridge * kernel.diagonal().mean().clamp(min=1e-12) * identity)
        errors.append((inverse @ targets / inverse.diagonal()[:, None]).square().mean())
    return float(torch.stack(errors).min())
