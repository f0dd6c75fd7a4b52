"""Criteria of a layer's weights: their spectrum, and their outliers beside what they are multiplied by."""

import math
from collections.abc import Iterable
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmsa_bench.control.criteria import LARGEST, Batch, Criterion, NoBatches, Scores, first, largest
from lmsa_bench.models.layered import LayeredModel

IQR = 1.349  # interquartile range of a standard normal
MATRICES = (nn.Linear, nn.Conv2d)


def spectrum() -> Criterion:
    """Signal-to-noise ratio of a layer's weight matrices, without data (Hartford et al., 2024), larger is better.

    Of the singular values s of a matrix with aspect ratio β ≤ 1: σ = IQR(s)/1.349, t = σ(1 + √β), and the ratio is
    Σ(s > t) / Σ(s ≤ t) / max s, without limit where no s is below t, as in many a narrow matrix: then, as published, it
    is above all others. A convolution is its matrix (outputs, inputs · kernel); the layer's value is the mean over its
    matrices.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        return largest("spectrum", [fmean(map(_snr, matrices)) for matrices in map(_weights, _modules(model))])

    return score


def _snr(weight: Tensor) -> float:
    if weight.is_meta:
        raise NoBatches("a model without values has no spectrum")
    s = torch.linalg.svdvals(weight)
    low, high = torch.quantile(s, torch.tensor([0.25, 0.75], dtype=s.dtype, device=s.device))
    beta = min(weight.shape) / max(weight.shape)
    noisy = s <= (high - low) / IQR * (1 + math.sqrt(beta))
    noise = s[noisy].sum()
    return float(s[~noisy].sum() / noise / s[0]) if noise else LARGEST


def outliers(factor: float = 13.0, batches: int = 5) -> Criterion:
    """Percentage of outliers among |W_ij|·‖x_j‖ of a layer's matrices (Yin et al., 2024, OWL), larger is better.

    ‖x_j‖ is over samples and positions of what the matrix takes; an outlier is more than ``factor`` times the layer's
    mean. OwLore draws layers in proportion to it (Li et al., 2024).
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        squares: dict[nn.Module, Tensor] = {}
        hooks = [
            module.register_forward_pre_hook(partial(_add, squares=squares))
            for modules in _modules(model)
            for module in modules
        ]
        try:
            with torch.no_grad():
                for x, _ in first(tuning, batches):
                    model(x)
        finally:
            for hook in hooks:
                hook.remove()
        ratios = []
        for modules in _modules(model):
            parts = [w.abs() * squares[m].sqrt() for m, w in zip(modules, _weights(modules), strict=True)]
            products = torch.cat([part.flatten() for part in parts])
            ratios.append(100 * (products > factor * products.mean()).double().mean().item())
        return largest("outliers", ratios)

    return score


def _add(module: nn.Module, inputs: tuple[Tensor], squares: dict[nn.Module, Tensor]) -> None:
    (x,) = inputs
    if isinstance(module, nn.Conv2d):
        kernel = (module.kernel_size[0], module.kernel_size[1])
        padding = module.padding if isinstance(module.padding, tuple) else (0, 0)
        rows = F.unfold(x, kernel, module.dilation, padding, module.stride).movedim(1, -1)
    else:
        rows = x
    found = rows.flatten(0, -2).double().square().sum(0)
    squares[module] = squares[module] + found if module in squares else found


def _modules(model: LayeredModel) -> list[list[nn.Module]]:
    """Of each layer, its linear maps and convolutions."""
    return [[part for part in layer.modules() if isinstance(part, MATRICES)] for layer in model.layers]


def _weights(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Their weights as matrices (outputs, inputs), float64."""
    return [module.get_parameter("weight").detach().flatten(1).double() for module in modules]
