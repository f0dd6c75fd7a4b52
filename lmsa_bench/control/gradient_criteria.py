"""Criteria of the gradient with respect to each layer's parameters: RGN (section 4.1) and two signal-to-noise ratios.

All are of the mean loss and of the network in eval mode, as everything here.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import fmean

import torch
from torch import Tensor

from lmsa_bench.control.criteria import Batch, Criterion, Scores, first, largest
from lmsa_bench.control.trajectory import Loss, cross_entropy
from lmsa_bench.errors import UserError
from lmsa_bench.models.layered import LayeredModel

SNR_EPSILON = 1e-8  # added to a variance by the published Auto-SNR


def rgn(batches: int = 5, loss: Loss = cross_entropy) -> Criterion:
    """Relative gradient norm ‖∂J/∂θ_n‖ / ‖θ_n‖ of the mean loss (section 4.1; Lee et al., 2022), larger is better.

    The mean over the batches. A layer whose parameters are all 0 has none and ranks last.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        ratios = [
            torch.stack([_norm(g) / _norm(model.parameters_of(n) or g) for n, g in enumerate(gradients)])
            for gradients in _gradients(model, first(tuning, batches), loss)
        ]
        return largest("rgn", torch.stack(ratios).mean(0).tolist())

    return score


def batch_snr(batches: int = 5, loss: Loss = cross_entropy) -> Criterion:
    """Signal-to-noise ratio over batches: the mean over θ_n of (mean gradient)² / variance, larger is better.

    Mean and variance are over the batches, of each parameter: not the published Auto-SNR, which is ``auto_snr``.
    Parameters with the same gradient in all of them, such as the 0 of a dead unit, have no noise and are left out.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        one, *rest = _gradients(model, first(tuning, batches), loss)
        if not rest:
            raise UserError("the variance of a gradient needs at least two batches")
        values = []
        for layer in zip(one, *rest, strict=True):
            stacked = torch.stack([_flat(batch) for batch in layer])
            mean, variance = stacked.mean(0), stacked.var(0)
            noisy = variance != 0  # and NaN, which must not pass for silence
            ratios = mean[noisy].square() / variance[noisy]
            values.append(ratios.mean().item() if len(ratios) else 0.0)
        return largest("batch_snr", values)

    return score


def auto_snr(batches: int = 5, loss: Loss = cross_entropy) -> Criterion:
    """Auto-SNR as published (Lee et al., 2022; surgical-finetuning, main.py, get_lr_weights), larger is better.

    A tensor's ratio is the mean of g² / (variance of g over dim 0 + 1e-8), g one batch's gradient of the mean loss;
    tensors with "bn" in their names are left out; a ratio is the mean over the batches. As published, each tensor's lr
    is then multiplied by 1 where its ratio is at least 0.95, else by 0, anew each epoch, with the network in train
    mode. Departures: a layer's score is the mean over its tensors, with no threshold, of the network in eval mode; a
    tensor of one row, whose variance is undefined, is left out. A layer without a tensor left ranks last.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        names = {id(parameter): name for name, parameter in model.source.named_parameters()}
        counted = [
            [i for i, p in enumerate(model.parameters_of(n)) if "bn" not in names[id(p)] and p.ndim and len(p) > 1]
            for n in range(len(model))
        ]
        rows = [
            [_mean([_row_snr(layer[i]) for i in some]) for layer, some in zip(gradients, counted, strict=True)]
            for gradients in _gradients(model, first(tuning, batches), loss)
        ]
        return largest("auto_snr", [fmean(layer) for layer in zip(*rows, strict=True)])

    return score


def gradient_length(batches: int = 5, loss: Loss = cross_entropy) -> Criterion:
    """‖∂J/∂θ_n‖₁ of the mean loss, larger is better: what Adam's first step, of ±lr a parameter, gains to first order.

    The mean over the batches; as lr has the same factor for all layers, it is left out.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        rows = [
            torch.stack([_flat(layer).abs().sum() for layer in gradients])
            for gradients in _gradients(model, first(tuning, batches), loss)
        ]
        return largest("gradient_length", torch.stack(rows).mean(0).tolist())

    return score


def fisher(batches: int = 5, loss: Loss = cross_entropy) -> Criterion:
    """The mean over θ_n of the diagonal of the empirical Fisher information (Lodha et al., 2023), larger is better.

    The diagonal is the mean over samples of (∂Φ_i/∂θ)², each sample's gradient on its own; the labels are the data's.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        samples = [(x[i : i + 1], y[i : i + 1]) for x, y in first(tuning, batches) for i in range(len(y))]
        squares = [
            torch.stack([_flat(layer).square().mean() for layer in gradients])
            for gradients in _gradients(model, samples, loss)
        ]
        return largest("fisher", torch.stack(squares).mean(0).tolist())

    return score


def _row_snr(g: Tensor) -> float:
    g = g.double()
    return (g.square() / (g.var(0, keepdim=True) + SNR_EPSILON)).mean().item()


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([t.detach().double().square().sum() for t in tensors]).sum().sqrt()


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """All values of a layer's tensors, float64."""
    return torch.cat([t.double().flatten() for t in tensors])


def _gradients(model: LayeredModel, tuning: Iterable[Batch], loss: Loss) -> Iterable[list[tuple[Tensor, ...]]]:
    """For each batch and layer, ∂(mean loss)/∂θ_n, one tensor per parameter; nan for a layer that has none."""
    layers = range(len(model))
    model.tune_only(layers)
    parameters = [model.parameters_of(n) for n in layers]
    for x, y in tuning:
        gradients = iter(torch.autograd.grad(loss(model(x), y).mean(), [p for ps in parameters for p in ps]))
        yield [tuple(islice(gradients, len(ps))) or (x.new_tensor([math.nan]),) for ps in parameters]
