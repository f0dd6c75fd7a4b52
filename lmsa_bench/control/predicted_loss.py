"""The predicted loss Ĵ (eq. 8, 9): the loss that a step on one layer alone would leave, without taking the step."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vjp, vmap

from lmsa_bench.control.criteria import Batch, Criterion, Scores, first, smallest
from lmsa_bench.control.state_views import STATE_VIEWS, StateView, View
from lmsa_bench.control.trajectory import Loss, Trajectory, cross_entropy, trajectory
from lmsa_bench.models.layered import LayeredModel

AVERAGED = 3  # of the names below, over the batches; the others are the first batch's
NAMES = ("predicted_loss", "rho_hat", "loss", "loss_after", "step_error", "rho_ratio")
SAMPLES = 16  # whose steps are taken together in the view ``sample``: each has parameters of its own


def predicted_loss(
    state_view: StateView = "flat",
    c: float = 1.0,
    batches: int = 5,
    loss: Loss = cross_entropy,
    diagnose: bool = False,
) -> Criterion:
    """Ĵ_n (eq. 8) with c · ρ̂_n (eq. 9), smaller is better: the loss predicted after eq. 10's step on layer n alone.

    It predicts that loss where layer n is linear and a state's column is what the layer maps (proposition 3.1). With c
    well below 1 the step is so long that it raises the loss by orders of magnitude (at c = 0.001 in 40 of 40 cases of
    the suite ``development`` as ``flat`` and as ``position``): the value is then an index that orders layers, no loss
    to expect. Values are Ĵ_n / K in nats, the mean over the batches; logged beside them:

    - ``rho_hat``: c · ρ̂_n, in the view ``sample`` the mean over samples; 0 where r_n or J is 0 and there is no step;
    - ``loss``: J / K before the step;
    - with ``diagnose`` also what the step does when it is taken, on the first batch alone, since it costs a double
      backward a layer. The step is θ_n − (1/(c · ρ̂_n)) ∂J/∂θ_n, eq. 10's for a linear layer; the view ``sample`` takes
      each sample's alone. ``loss_after`` = J / K after it, ``step_error`` = |Ĵ_n − J after it| / K, and ``rho_ratio`` =
      c · ρ̂_n/ρ*_n, ρ*_n = gᵀHg/gᵀg the curvature of J along its gradient g = ∂J/∂θ_n, in a deep linear network
      eq. 12's ρ*_n. Below 1 the step is longer than the best one of a quadratic J, below 0 J curves down along g.
    """
    view = STATE_VIEWS[state_view]

    def score(model: LayeredModel, tuning: Iterable[Batch]) -> Scores:
        layers = range(len(model))
        rows = [
            torch.stack([torch.stack(_predict(model, t, n, view, c, loss, y, diagnose and i == 0)) for n in layers])
            for i, (x, y) in enumerate(first(tuning, batches))
            for t in [trajectory(model, x, y, loss)]
        ]
        means = torch.stack([row[:, :AVERAGED] for row in rows]).mean(0)
        columns = torch.cat([means, rows[0][:, AVERAGED:]], 1).T.tolist()
        logged = dict(zip(NAMES, columns, strict=False))
        return smallest(NAMES[0], logged.pop(NAMES[0]), logged)

    return score


@torch.no_grad()
def _predict(
    model: LayeredModel,
    t: Trajectory,
    n: int,
    view: View,
    c: float,
    loss: Loss,
    target: Tensor,
    diagnose: bool,
) -> list[Tensor]:
    """Ĵ_n / K, c · ρ̂_n, J / K and, to ``diagnose``, the loss after the step, Ĵ_n's error and c · ρ̂_n/ρ*_n; float64."""
    x_next = t.state(n + 1)
    step = view(t.state(n), x_next, t.costate(n + 1), model.reads[n])
    losses = t.losses.double()
    j = losses if step.r2.ndim else losses.sum()
    outputs = t.x[-1].flatten(1).shape[1]
    # No gradient: r is 0 and ρ̂ is 0/0. No loss, as float32 rounds a small one: ρ̂ is infinite. Neither has a step.
    stands = (step.prx2 == 0) | (j == 0)
    rho_hat = torch.where(stands, 0.0, c * outputs / (2 * j) * step.prx2 / step.r2)
    alpha = torch.where(stands, 0.0, 1 / rho_hat)
    perturbed = x_next + (alpha.view(-1, *(1,) * (x_next.ndim - 1)) * step.direction).to(x_next.dtype)
    j_hat = loss(model.run(perturbed, n + 1), target).double()
    found = [j_hat.mean(), _mean(rho_hat, stands), losses.mean()]
    if diagnose:
        after, rho_star = _take(model, t, n, alpha, loss, target)
        error = (j_hat - after).abs() if after.ndim else (j_hat.sum() - after).abs()
        stands |= rho_star.isnan()  # θ_n has no gradient
        found += [after.sum() / len(losses), error.sum() / len(losses), _mean(rho_hat / rho_star, stands)]
    return found


def _take(
    model: LayeredModel, t: Trajectory, n: int, alpha: Tensor, loss: Loss, target: Tensor
) -> tuple[Tensor, Tensor]:
    """J after θ_n − α ∂J/∂θ_n, and ρ*_n: scalars, or (K,) where α is; the model's own parameters stay as they are."""
    layer = model.layers[n]
    own = {id(parameter) for parameter in model.parameters_of(n)}
    theta = {name: p.detach() for name, p in layer.named_parameters() if id(p) in own}

    def j(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(model.run(functional_call(layer, theta, (x,)), n + 1), y).sum()

    def taken(x: Tensor, y: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        g, pull = vjp(lambda theta: grad(j)(theta, x, y), theta)  # type: ignore[misc]  # torch types a third, of has_aux
        (hg,) = pull(g)  # H is symmetric
        moved = {name: p - (alpha * g[name].double()).to(p.dtype) for name, p in theta.items()}
        return j(moved, x, y).double(), _dot(g, hg) / _dot(g, g)

    x = t.state(n)
    if not alpha.ndim:
        return taken(x, target, alpha)
    each: tuple[Tensor, Tensor] = vmap(taken, chunk_size=SAMPLES)(x[:, None], target[:, None], alpha)
    return each


def _dot(a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
    return torch.stack([(a[name].double() * b[name].double()).sum() for name in a]).sum()


def _mean(values: Tensor, without: Tensor) -> Tensor:
    """The mean over those that are not left out, 0 where all are."""
    return torch.where(without, 0.0, values).sum() / (~without).sum().clamp(min=1)
