"""Per-layer scores for choosing the layer to tune: the predicted loss Ĵ (eq. 8, 9), RGN (section 4.1) and SNR."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lmsa_bench.control.trajectory import Loss, Trajectory, cross_entropy, trajectory
from lmsa_bench.errors import UserError
from lmsa_bench.models.layered import LayeredModel

Batch = tuple[Tensor, Tensor]
StateView = Literal["flat", "position", "sample"]


class NoBatches(ValueError):
    """A criterion was given no tuning batch."""


class Scores(NamedTuple):
    """One value per layer, the index of the best layer, and the per-layer lists that a trial records, by name."""

    values: list[float]
    best: int
    logged: dict[str, list[float]]


Criterion = Callable[[LayeredModel, Iterable[Batch]], Scores]
"""Scores every layer of a model on tuning batches; may change requires_grad, but no parameter's value."""


class Step(NamedTuple):
    """The terms of eq. 8 and 9 for layer n, with X = x_n, P = p_{n+1}, r_n = P Xᵀ and states as columns; float64.

    ‖r_n‖² and ‖Pᵀ r_n X‖² are scalars, or (K,) in the view ``sample``; the direction P·XᵀX has the shape of x_{n+1}.
    """

    r2: Tensor
    prx2: Tensor
    direction: Tensor


def flat(x: Tensor, x_next: Tensor, p_next: Tensor) -> Step:
    """A sample is a column, d = numel: K x K Gram matrices give all terms without forming r_n (d_{n+1} x d_n)."""
    rows_x, rows_p = x.flatten(1).double(), p_next.flatten(1).double()
    a, b = rows_p @ rows_p.T, rows_x @ rows_x.T
    return Step((a * b).sum(), (a @ b).square().sum(), (b @ rows_p).view_as(x_next))


def sample(x: Tensor, x_next: Tensor, p_next: Tensor) -> Step:
    """Each sample is a separate problem with K = 1: the norms are (K,)."""
    x2, p2 = (s.flatten(1).double().square().sum(1) for s in (x, p_next))
    direction = p_next.double() * x2.view(-1, *(1,) * (p_next.ndim - 1))
    return Step(x2 * p2, (x2 * p2).square(), direction)


def position(x: Tensor, x_next: Tensor, p_next: Tensor) -> Step:
    """A (sample, pixel or token) pair is a column, d = channels: r_n (channels x channels) is formed."""
    x = _at_resolution_of(x_next, x)
    # Tokens without a position in x_n (the class token above an image) come first and are not perturbed.
    prefix = x_next.shape[1] - x.shape[1] if x_next.ndim == 3 else 0
    columns_x, columns_p = _columns(x), _columns(p_next[:, prefix:])
    r = columns_p @ columns_x.T
    a, b = columns_p @ columns_p.T, columns_x @ columns_x.T
    direction = torch.zeros_like(x_next, dtype=torch.float64)
    moved = _channels_first(direction[:, prefix:])
    moved.copy_((r @ columns_x).view(moved.shape))
    return Step(r.square().sum(), ((a @ r @ b) * r).sum(), direction)


STATE_VIEWS: dict[StateView, Callable[[Tensor, Tensor, Tensor], Step]] = {
    "flat": flat,
    "position": position,
    "sample": sample,
}


def _channels_first(s: Tensor) -> Tensor:
    """Images (K, C, H, W), tokens (K, T, C) or vectors (K, C) as a view (C, K, …)."""
    return s.movedim(2 if s.ndim == 3 else 1, 0)


def _columns(s: Tensor) -> Tensor:
    return _channels_first(s).flatten(1).double()


def _at_resolution_of(x_next: Tensor, x: Tensor) -> Tensor:
    """x_n pooled to the positions of x_{n+1}; an image below tokens becomes its patches (K, patches, C · side²)."""
    if x_next.ndim == 2:
        return x if x.ndim == 2 else x.mean((2, 3)) if x.ndim == 4 else x.mean(1)
    if x.ndim == 4 and x_next.ndim == 4:
        return x if x.shape[2:] == x_next.shape[2:] else F.adaptive_avg_pool2d(x, (x_next.shape[2], x_next.shape[3]))
    if x.ndim == 4:
        side = round((x.shape[2] * x.shape[3] / (x_next.shape[1] - 1)) ** 0.5)
        return F.unfold(x, side, stride=side).mT
    return x


def predicted_loss(
    state_view: StateView = "flat", c: float = 1.0, batches: int = 5, loss: Loss = cross_entropy
) -> Criterion:
    """Ĵ_n (eq. 8) with c · ρ̂_n (eq. 9), smaller is better: the loss predicted after one step on layer n alone.

    Values are Ĵ_n / K, averaged over the batches; also logged are c · ρ̂_n and the loss before the step, J / K.
    """
    view = STATE_VIEWS[state_view]

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        rows = [
            torch.stack([torch.stack(_predict(model, t, n, view, c, loss, y)) for n in range(len(model))])
            for x, y in _first(tuning, batches)
            for t in [trajectory(model, x, y, loss)]
        ]
        j_hat, rho_hat, j = torch.stack(rows).mean(0).T.tolist()
        logged = {"predicted_loss": j_hat, "rho_hat": rho_hat, "loss": j}
        return Scores(j_hat, min(range(len(model)), key=j_hat.__getitem__), logged)

    return score


@torch.no_grad()
def _predict(
    model: LayeredModel,
    t: Trajectory,
    n: int,
    view: Callable[[Tensor, Tensor, Tensor], Step],
    c: float,
    loss: Loss,
    target: Tensor,
) -> list[Tensor]:
    """Ĵ_n / K, c · ρ̂_n (the mean over samples in the view ``sample``) and J / K, as float64 scalars."""
    x_next = t.state(n + 1)
    step = view(t.state(n), x_next, t.costate(n + 1))
    losses = t.losses.double()
    outputs = t.x[-1].flatten(1).shape[1]
    rho_hat = c * outputs / (2 * (losses if step.r2.ndim else losses.sum())) * step.prx2 / step.r2
    # Where the loss has no gradient, r is 0 and ρ̂ is 0/0: there is no step.
    alpha = torch.where(step.r2 > 0, 1 / rho_hat, 0.0).view(-1, *(1,) * (x_next.ndim - 1))
    perturbed = x_next + (alpha * step.direction).to(x_next.dtype)
    return [loss(model.run(perturbed, n + 1), target).double().mean(), rho_hat.mean(), losses.mean()]


def rgn(batches: int = 5, loss: Loss = cross_entropy) -> Criterion:
    """Relative gradient norm ‖∂J/∂θ_n‖ / ‖θ_n‖ of the mean loss (section 4.1; Lee et al., 2022), larger is better."""

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        ratios = [
            torch.stack([_norm(g) / _norm(model.parameters_of(n)) for n, g in enumerate(gradients)])
            for gradients in _gradients(model, _first(tuning, batches), loss)
        ]
        return _largest("rgn", torch.stack(ratios).mean(0).tolist())

    return score


def snr(batches: int = 5, loss: Loss = cross_entropy) -> Criterion:
    """Signal-to-noise ratio (Lee et al., 2022): the mean over θ_n of (mean gradient)² / variance, larger is better.

    Mean and variance are over the batches. Parameters with the same gradient in all of them, such as the 0 of a dead
    unit, have no noise and are left out.
    """

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        first, *rest = _gradients(model, _first(tuning, batches), loss)
        if not rest:
            raise UserError("the variance of a gradient needs at least two batches")
        values = []
        for layer in zip(first, *rest, strict=True):
            stacked = torch.stack([torch.cat([g.flatten() for g in batch]) for batch in layer]).double()
            mean, variance = stacked.mean(0), stacked.var(0)
            noisy = variance > 0
            values.append((mean[noisy].square() / variance[noisy]).mean().nan_to_num(0.0))
        return _largest("snr", torch.stack(values).tolist())

    return score


def _largest(name: str, values: list[float]) -> Scores:
    return Scores(values, max(range(len(values)), key=values.__getitem__), {name: values})


def _first(tuning: Iterable[Batch], batches: int) -> Iterator[Batch]:
    selected = islice(tuning, batches)
    first = next(selected, None)
    if first is None:
        raise NoBatches("a criterion needs at least one tuning batch")
    return chain([first], selected)


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack([t.detach().double().square().sum() for t in tensors]).sum().sqrt()


def _gradients(model: LayeredModel, tuning: Iterable[Batch], loss: Loss) -> Iterable[list[tuple[Tensor, ...]]]:
    """For each batch and layer, ∂(mean loss)/∂θ_n, one tensor per parameter."""
    layers = range(len(model))
    model.tune_only(layers)
    parameters = [model.parameters_of(n) for n in layers]
    for x, y in tuning:
        gradients = iter(torch.autograd.grad(loss(model(x), y).mean(), [p for ps in parameters for p in ps]))
        yield [tuple(islice(gradients, len(ps))) for ps in parameters]
