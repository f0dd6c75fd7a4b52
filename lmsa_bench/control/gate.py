"""The gate: where the classifier's frozen inputs still tell the classes apart, tune the classifier, else ask RGN."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lmsa_bench.control.criteria import Batch, Scores, first, largest
from lmsa_bench.control.evidence import Evidence, Judge
from lmsa_bench.control.gradient_criteria import rgn
from lmsa_bench.models.layered import LayeredModel, head_of

FOLDS = 5
RIDGE = 1e-3  # of the features' mean square
PASSED = 1e6  # the last layer's value where the gate is passed: above any relative gradient norm


def gate(threshold: float = 0.95, batches: int = 5) -> Judge:
    """RGN, but the last layer where a probe reaches ``threshold`` of the source model's own accuracy; larger is better.

    The probe is a ridge regression of the labels, as columns of 0 and 1, on what the classifier takes, over all tuning
    samples; its accuracy is cross-validated in five folds. The source's accuracy is that on images before the shift.
    """

    def score(model: LayeredModel, evidence: Evidence) -> Scores:
        tuning = list(first(evidence))
        reached = ridge_accuracy(*features(model, tuning)) / max(evidence.source_accuracy(), 1e-9)
        # RGN is needed for the other branch alone, and so is its cost.
        passed = reached >= threshold
        values = [0.0] * (len(model) - 1) + [PASSED] if passed else rgn(batches)(model, tuning).values
        scores = largest("gate", values)
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


def ridge_accuracy(x: Tensor, y: Tensor) -> float:
    """Cross-validated accuracy, a fraction, of ridge regression of class indices y (n,) on rows x (n, D)."""
    x = x.double()
    targets = torch.nn.functional.one_hot(y).double()
    fold = torch.arange(len(y), device=y.device) % min(FOLDS, len(y))
    correct = 0
    for i in range(min(FOLDS, len(y))):
        own, rest = fold == i, fold != i
        mean, centre = x[rest].mean(0), targets[rest].mean(0)
        a, b = x[rest] - mean, targets[rest] - centre
        gram = a.T @ a
        ridge = RIDGE * gram.diagonal().mean().clamp(min=1e-12)
        weights = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=x.dtype, device=x.device), a.T @ b)
        guessed = ((x[own] - mean) @ weights + centre).argmax(1)
        correct += int((guessed == y[own]).sum())
    return correct / len(y)
