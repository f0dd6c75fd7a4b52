"""How well a layer's tangent kernel predicts labels that it has not seen: what tuning it could learn, linearly."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from lmsa_bench.control.criteria import Batch, Criterion, Scores, first, smallest
from lmsa_bench.control.gradient_criteria import SAMPLES
from lmsa_bench.models.layered import LayeredModel

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the kernel's mean diagonal; the best one of each layer counts


def tangent(batches: int = 2) -> Criterion:
    """Mean squared error of the classes' probabilities, each sample left out, by layer n's kernel; smaller is better.

    The kernel of two samples is the product of their gradients ∂(v·x_N)/∂θ_n with v = (−1, 1, −1, …); a kernel ridge
    regression of one-hot labels minus the source model's probabilities is solved in closed form. Not published: it
    costs one forward and one backward a sample, as full fine-tuning does, and holds the gradients of all samples.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        theta = {name: p.detach() for name, p in model.named_parameters()}
        rows: list[dict[str, Tensor]] = []
        outputs, labels = [], []
        direction: Tensor | None = None
        for x, y in first(tuning, batches):
            with torch.no_grad():
                outputs.append(model(x))
            if direction is None:
                signs = torch.arange(outputs[0].shape[1], device=x.device) % 2
                direction = (2.0 * signs - 1).to(outputs[0])

            def along(theta: dict[str, Tensor], x: Tensor, v: Tensor = direction) -> Tensor:
                out: Tensor = functional_call(model, theta, (x[None],))[0]
                return out @ v

            rows.append(vmap(grad(along), in_dims=(None, 0), chunk_size=SAMPLES)(theta, x))
            labels.append(y)
        logits = torch.cat(outputs)
        residual = (F.one_hot(torch.cat(labels), logits.shape[1]) - logits.softmax(1)).double()
        values = []
        for n in range(len(model)):
            own = [names[id(p)] for p in model.parameters_of(n)]
            flat = torch.cat([torch.cat([row[name].flatten(1) for name in own], 1) for row in rows]).double()
            values.append(left_out_error(flat @ flat.T, residual))
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
