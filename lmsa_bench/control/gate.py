"""The gate: where the classifier's frozen inputs still tell the classes apart, tune the classifier, else ask RGN."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.control.criteria import Batch, Criterion, Scores, first, largest
from lmsa_bench.control.evidence import Evidence, Judge
from lmsa_bench.control.gradient_criteria import rgn
from lmsa_bench.control.lookahead import loss_ahead
from lmsa_bench.models.layered import LayeredModel, head_of

FOLDS = 5
RIDGE = 1e-3  # of the features' mean sum of squares
PASSED = 1e6  # the last layer's value where the gate is passed: above any relative gradient norm


Probe = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Classes (m,) of rows (m, D), from other rows (n, D) and the 0 and 1 of their classes (n, C)."""


def gate(threshold: float = 0.95, batches: int = 5) -> Judge:
    """RGN, but the last layer where a probe reaches ``threshold`` of the source model's own accuracy; larger is better.

    The probe is a ridge regression of the labels, as columns of 0 and 1, on what the classifier takes, over all tuning
    samples; its accuracy is cross-validated in five folds. The source's accuracy is that on images before the shift.
    """
    return _gated("gate", ridge, threshold, rgn(batches))


def gate_by_means(threshold: float = 0.95, batches: int = 5) -> Judge:
    """The same with the nearest class mean as probe."""
    return _gated("gate_by_means", nearest_mean, threshold, rgn(batches))


def gate_ahead(threshold: float = 0.95, steps: int = 2, lr: float = 1e-2) -> Judge:
    """The gate, but by the loss ``steps`` steps ahead of each layer but the last where it is not passed."""

    def among_others(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        batches = list(tuning)
        losses = [loss_ahead(model, n, batches, steps, lr) for n in range(len(model) - 1)]
        return largest("minus_loss", [*(-loss for loss in losses), -PASSED])

    return _gated("gate_ahead", ridge, threshold, among_others)


def _gated(name: str, probe: Probe, threshold: float, otherwise: Criterion) -> Judge:
    def score(model: LayeredModel, evidence: Evidence) -> Scores:
        tuning = list(first(evidence))
        reached = cross_validated(probe, *features(model, tuning)) / max(evidence.source_accuracy(), 1e-9)
        # The other branch, and its cost, only where it is needed.
        passed = reached >= threshold
        values = [0.0] * (len(model) - 1) + [PASSED] if passed else otherwise(model, tuning).values
        scores = largest(name, values)
        return scores._replace(logged=scores.logged | {"probe": [reached] * len(model)})

    return score


@torch.no_grad()
def features(model: LayeredModel, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """What the classifier takes of all samples (n, D), and their labels (n,)."""
    found: list[Tensor] = []
    head = model.source.get_submodule(head_of(model.source))
    hook = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    labels = []
    try:
        for x, y in batches:
            model(x)
            labels.append(y)
    finally:
        hook.remove()
    return torch.cat(found), torch.cat(labels)


def cross_validated(probe: Probe, x: Tensor, y: Tensor) -> float:
    """Accuracy, a fraction, of a probe on rows x (n, D) of classes y (n,), each guessed from the other folds."""
    x, targets = x.double(), F.one_hot(y).double()
    folds = min(FOLDS, len(y))
    fold = torch.arange(len(y), device=y.device) % folds
    guessed = y.clone()
    for i in range(folds):
        own = fold == i
        guessed[own] = probe(x[own], x[~own], targets[~own])
    return (guessed == y).double().mean().item()


def ridge(x: Tensor, others: Tensor, targets: Tensor) -> Tensor:
    """The class of the largest output of a ridge regression with an offset."""
    mean, centre = others.mean(0), targets.mean(0)
    a = others - mean
    gram = a.T @ a
    penalty = RIDGE * gram.diagonal().mean().clamp(min=1e-12)
    weights: Tensor = torch.linalg.solve(
        gram + penalty * torch.eye(len(gram), dtype=x.dtype, device=x.device), a.T @ targets
    )
    found: Tensor = ((x - mean) @ weights + centre).argmax(1)
    return found


def nearest_mean(x: Tensor, others: Tensor, targets: Tensor) -> Tensor:
    """The class whose mean is nearest; one without samples is infinitely far."""
    counts = targets.sum(0)
    distances = torch.cdist(x, targets.T @ others / counts.clamp(min=1)[:, None])
    return distances.masked_fill(counts == 0, math.inf).argmin(1)
