"""The mathematics on nonlinear networks: derivatives against finite differences and against explicit formulas."""

import math

import pytest
import torch
from torch import nn

from lmsa_bench.control import state_views
from lmsa_bench.control.gradient_criteria import batch_snr, rgn
from lmsa_bench.control.hamiltonian import augmented_hamiltonian, hamiltonian
from lmsa_bench.control.moments import Moments
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.trajectory import cross_entropy, trajectory
from lmsa_bench.control.updates import MSA, Adam
from lmsa_bench.errors import UserError
from lmsa_bench.models import MODELS
from lmsa_bench.models.layered import LayeredModel
from lmsa_bench.models.wide_resnet import wide_resnet
from lmsa_bench.seeding import generator


def tanh_network() -> LayeredModel:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(i, o), nn.Tanh()) for i, o in ((4, 5), (5, 6), (6, 3))]
    source = nn.Sequential(*layers).double()
    return LayeredModel(source, {f"layer{n}": layer for n, layer in enumerate(source)})


def batch(samples: int = 4):
    g = generator(1, "batch", samples)
    return torch.randn(samples, 4, generator=g, dtype=torch.float64), torch.randint(3, (samples,), generator=g)


def wrn():
    torch.manual_seed(0)
    model = wide_resnet(10, 1, 3, channels=2, stem_stride=2).double().eval()
    g = generator(2, "images")
    return model, torch.rand(3, 2, 8, 8, generator=g, dtype=torch.float64), torch.tensor([0, 2, 1])


def test_costates_against_finite_differences():
    model, (x, y) = tanh_network(), batch()
    t = trajectory(model, x, y)
    for n in range(len(model) + 1):
        direction = torch.randn(t.state(n).shape, generator=generator(3, n), dtype=torch.float64)
        h = 1e-6
        ends = [cross_entropy(model.run(t.state(n) + s * h * direction, n), y).sum() for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close(-(t.costate(n) * direction).sum(), slope, rtol=1e-7, atol=1e-9)


def test_a_trajectory_from_a_later_start_is_the_same():
    model, (x, y) = tanh_network(), batch()
    whole, part = trajectory(model, x, y), trajectory(model, model.run(x, 0, 1).detach(), y, start=1, first=2)
    for n in (2, 3):
        torch.testing.assert_close(part.state(n), whole.state(n))
        torch.testing.assert_close(part.costate(n), whole.costate(n))


def explicit(x, p):
    """The terms of eq. 8 and 9 as printed, for states as columns: X (d_n, K), P (d_{n+1}, K)."""
    r = p @ x.T
    return (p.T @ r @ x).square().sum(), r.square().sum(), p @ x.T @ x


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_flat_gram_matrices_equal_the_explicit_form(samples):
    model, (x, y) = tanh_network(), batch(samples)
    t = trajectory(model, x, y)
    for n in range(len(model)):
        step = state_views.flat(t.state(n), t.state(n + 1), t.costate(n + 1))
        prx2, r2, direction = explicit(t.state(n).T, t.costate(n + 1).T)
        for ours, theirs in zip(step, (r2, prx2, direction.T), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_position_equals_the_explicit_form_on_images():
    model, x, y = wrn()
    t = trajectory(model, x, y)
    for n in range(len(model)):
        x_n, x_next, p = t.state(n), t.state(n + 1), t.costate(n + 1)
        if x_next.ndim == 2:
            columns_x, columns_p = x_n.mean((2, 3)).T, p.T
        else:
            factor = x_n.shape[2] // x_next.shape[2]
            pooled = x_n if factor == 1 else nn.functional.avg_pool2d(x_n, factor)
            columns_x, columns_p = (s.permute(1, 0, 2, 3).reshape(s.shape[1], -1) for s in (pooled, p))
        prx2, r2, direction = explicit(columns_x, columns_p)
        step = state_views.position(x_n, x_next, p)
        torch.testing.assert_close(step.r2, r2, rtol=1e-12, atol=0)
        torch.testing.assert_close(step.prx2, prx2, rtol=1e-10, atol=0)
        columns = step.direction.T if x_next.ndim == 2 else step.direction.transpose(0, 1).flatten(1)
        torch.testing.assert_close(columns, direction, rtol=1e-10, atol=1e-14)


def test_position_uses_the_patches_of_a_vision_transformer_and_skips_the_class_token():
    torch.manual_seed(0)
    model = MODELS.get("small_vit")(10, (1, 8, 8)).double().eval()
    x, y = torch.rand(2, 1, 8, 8, dtype=torch.float64), torch.tensor([3, 7])
    t = trajectory(model, x, y)
    p = t.costate(1)
    # Column j of sample k: the 2x2 patch j in row-major order, and the co-state of token 1 + j.
    patches = [
        x[k, 0, i : i + 2, j : j + 2].flatten() for k in range(2) for i in range(0, 8, 2) for j in range(0, 8, 2)
    ]
    prx2, r2, direction = explicit(torch.stack(patches).T, p[:, 1:].reshape(-1, p.shape[2]).T)
    step = state_views.position(x, t.state(1), p)
    torch.testing.assert_close(step.r2, r2)
    torch.testing.assert_close(step.prx2, prx2)
    torch.testing.assert_close(step.direction[:, 1:].reshape(-1, p.shape[2]).T, direction)
    assert not step.direction[:, 0].any()
    assert len(predicted_loss("position")(model, [(x, y)]).values) == 12


def test_sample_is_the_mean_of_problems_of_one_sample():
    model, x, y = wrn()
    alone = [predicted_loss("flat")(model, [(x[k : k + 1], y[k : k + 1])]).values for k in range(len(y))]
    together = predicted_loss("sample")(model, [(x, y)]).values
    assert together == pytest.approx([sum(layer) / len(y) for layer in zip(*alone, strict=True)], rel=1e-12)


def test_one_sample_takes_a_polyak_like_step():
    model, (x, y) = tanh_network(), batch(1)
    t = trajectory(model, x, y)
    for n, value in enumerate(predicted_loss("flat")(model, [(x, y)]).values):
        p = t.costate(n + 1)
        step = p * 2 * t.losses.sum() / (3 * p.square().sum())  # p · 2J/(d'‖p‖²) with d' = 3
        assert value == pytest.approx(cross_entropy(model.run(t.state(n + 1) + step, n + 1), y).item(), rel=1e-12)


@pytest.mark.parametrize("state_view", state_views.STATE_VIEWS)
def test_perturbation_is_the_same_for_summed_and_averaged_loss(state_view):
    model, x, y = wrn()
    one = predicted_loss(state_view)(model, [(x, y)])
    scaled = predicted_loss(state_view, loss=lambda output, target: cross_entropy(output, target) / 7)(model, [(x, y)])
    assert scaled.values == pytest.approx([value / 7 for value in one.values], rel=1e-10)
    assert scaled.best == one.best


def test_c_scales_rho_hat():
    model, x, y = wrn()
    one, ten = (predicted_loss("position", c)(model, [(x, y)]).logged["rho_hat"] for c in (1.0, 10.0))
    assert ten == pytest.approx([10 * value for value in one], rel=1e-12)


def test_a_loss_without_gradient_predicts_itself():
    model, x, y = wrn()
    scores = predicted_loss("flat", loss=lambda output, target: 0 * cross_entropy(output, target))(model, [(x, y)])
    assert scores.values == [0.0] * 4


def test_rgn_and_batch_snr_by_hand():
    # Two scalar layers a, b on a scalar x: J = ½(t − b a x)² with a = 2, b = 1, t = 0.
    source = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    model = LayeredModel(source, {"a": source[0], "b": source[1]})
    model.parameters_of(0)[0].data.fill_(2.0)
    model.parameters_of(1)[0].data.fill_(1.0)

    def half_square(output, target):
        return 0.5 * (output - target).square().sum(1)

    batches = [(torch.tensor([[x]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)) for x in (1.0, 2.0)]
    # ∂J/∂a = b·(b a x)·x = 2x²: 2, 8; over |a| = 2: 1, 4, mean 2.5.  ∂J/∂b = a x·(b a x) = 4x²: 4, 16; over 1: mean 10.
    assert rgn(loss=half_square)(model, batches).values == pytest.approx([2.5, 10.0])
    # a: mean 5, variance ((2−5)² + (8−5)²)/1 = 18: 25/18.  b: mean 10, variance 72: 100/72 = 25/18.
    assert batch_snr(loss=half_square)(model, batches).values == pytest.approx([25 / 18, 25 / 18])
    with pytest.raises(UserError, match="two batches"):
        batch_snr(loss=half_square)(model, batches[:1])


def test_criteria_do_not_change_parameters_or_buffers():
    model, x, y = wrn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for criterion in (predicted_loss(), rgn(), batch_snr()):
        criterion(model, [(x, y), (x.flip(0), y.flip(0))])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("costate_penalty", [True, False])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradient_of_the_augmented_hamiltonian_against_the_explicit_form(costate_penalty, reduction):
    # One layer g(x) = tanh(W x + b): (∂g/∂x)ᵀ p = Wᵀ (p ∘ (1 − g²)), all by hand.
    torch.manual_seed(1)
    linear = nn.Linear(4, 3).double()
    x, x_next, p, p_next = (torch.randn(5, d, dtype=torch.float64) for d in (4, 3, 4, 3))
    rho, decay = 0.7, 0.3
    theta = list(linear.parameters())
    cost = 0.5 * decay * sum(q.square().sum() for q in theta)
    h = augmented_hamiltonian(
        lambda s: torch.tanh(linear(s)), x, x_next, p, p_next, rho, cost, costate_penalty, reduction
    )

    w, b = (q.detach().clone().requires_grad_() for q in theta)
    g = torch.tanh(x @ w.T + b)
    pulled = (p_next * (1 - g**2)) @ w
    if reduction == "sum":
        written = (p_next * g).sum() - 0.5 * rho * ((x_next - g) ** 2).sum()
        written = written - 0.5 * rho * ((p - pulled) ** 2).sum() * costate_penalty
    else:  # 5 samples; 15 entries of x_{n+1}, 20 of p_n
        written = (p_next * g).sum() / 5 - 0.5 * rho * ((x_next - g) ** 2).sum() / 15
        written = written - 0.5 * rho * ((p - pulled) ** 2).sum() / 20 * costate_penalty
    written = written - 0.5 * decay * (w.square().sum() + b.square().sum())
    torch.testing.assert_close(h, written)
    for ours, theirs in zip(torch.autograd.grad(h, theta), torch.autograd.grad(written, (w, b)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_augmented_hamiltonian_at_the_snapshot_is_the_hamiltonian():
    # At the θ of the snapshot both penalties vanish, and their gradients with them: ∂H̃/∂θ = ∂H/∂θ = −∂J/∂θ.
    model, x, y = wrn()
    t = trajectory(model, x, y)
    for n in range(len(model)):
        theta = model.parameters_of(n)
        parts = (model.layers[n], t.state(n), t.state(n + 1), t.costate(n), t.costate(n + 1))
        h = augmented_hamiltonian(*parts, rho=100.0)
        torch.testing.assert_close(h, hamiltonian(model.layers[n], t.state(n), t.costate(n + 1)))
        j = cross_entropy(model(x), y).sum()
        for ours, theirs in zip(torch.autograd.grad(h, theta), torch.autograd.grad(j, theta), strict=True):
            torch.testing.assert_close(ours, -theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("reset_state", [True, False])
@pytest.mark.parametrize("options", [{}, {"costate_penalty": False}, {"reduction": "mean"}])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_msa_steps_equal_adam_on_the_augmented_hamiltonian(options, decay, reset_state):
    model, x, y = wrn()
    twin, _, _ = wrn()
    msa = MSA(model, lr=0.01, rho=0.1, inner_steps=3, weight_decay=decay, reset_state=reset_state, **options)
    optimizers = {n: torch.optim.Adam(twin.parameters_of(n), lr=0.01) for n in (0, 2)}
    for _ in range(2):
        msa.step(x, y, [0, 2])
        t = trajectory(twin, x, y)
        for n, optimizer in optimizers.items():  # Jacobi: both layers from one snapshot
            if reset_state:
                optimizer.state.clear()
            theta, parts = twin.parameters_of(n), (t.state(n), t.state(n + 1), t.costate(n), t.costate(n + 1))
            for _ in range(3):
                running_cost = 0.5 * decay * sum(p.square().sum() for p in theta)
                h = augmented_hamiltonian(twin.layers[n], *parts, rho=0.1, running_cost=running_cost, **options)
                optimizer.zero_grad()
                (-h).backward(inputs=theta)
                optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_msa_lowers_the_loss():
    model, x, y = wrn()
    update = MSA(model, lr=0.01, rho=0.01)
    losses = [update.step(x, y, [1]).item() for _ in range(5)]
    assert losses[-1] < losses[0]


def test_msa_can_reset_its_optimiser_on_each_batch():
    model, x, y = wrn()
    persistent, reset = MSA(model, lr=1e-3, rho=0.1), MSA(model, lr=1e-3, rho=0.1, reset_state=True)
    for update, steps in ((persistent, 10.0), (reset, 5.0)):
        for _ in range(2):
            update.step(x, y, [3])
        assert {float(state["step"]) for state in update.optimizer.state.values()} == {steps}


@pytest.mark.parametrize("keep_state", [True, False])
def test_adam_moments_of_a_layer_that_is_no_longer_tuned(keep_state):
    model, x, y = wrn()
    update = Adam(model, lr=1e-3, keep_state=keep_state)
    for n in (0, 1):
        model.tune_only([n])
        update.step(x, y, [n])
    has_moments = [all(p in update.optimizer.state for p in model.parameters_of(n)) for n in range(4)]
    assert has_moments == [keep_state, True, False, False]


@pytest.mark.parametrize("maximize", [False, True])
def test_moments_go_on_where_an_optimizer_of_torch_stopped_and_equal_it_to_the_last_bit(maximize):
    draw = torch.Generator().manual_seed(0)
    theirs = [torch.randn(size, generator=draw, requires_grad=True) for size in ((5, 3), (7,))]
    ours = [one.detach().clone().requires_grad_() for one in theirs]
    groups = [{"params": [one], "lr": 1e-2 * rate} for one, rate in zip(theirs, (1.0, 0.3), strict=True)]
    optimizer = torch.optim.Adam(groups, weight_decay=0.1, maximize=maximize, fused=True)
    moments = Moments(ours, 1e-2, 0.1, maximize, rates=(1.0, 1.0))
    for step in range(6):
        for one, other in zip(theirs, ours, strict=True):
            one.grad = None if one is theirs[1] and step in (0, 4) else torch.randn(one.shape, generator=draw)
            other.grad = None if one.grad is None else one.grad.clone()
        optimizer.step()
        if step > 2:  # from what a checkpoint of an optimizer holds, rates too
            moments.step()
        else:
            moments.load_state_dict(optimizer.state_dict())
            for one, other in zip(theirs, ours, strict=True):
                other.data.copy_(one.data)
        assert all(map(torch.equal, theirs, ours)), step


def test_adam_equals_torch_adam_on_the_whole_network():
    model, x, y = wrn()
    twin, _, _ = wrn()
    update = Adam(model, lr=1e-3, weight_decay=0.1)
    theta = [p for n in range(4) for p in twin.parameters_of(n)]
    optimizer = torch.optim.Adam(theta, lr=1e-3, weight_decay=0.1)
    for _ in range(3):
        model.tune_only(range(4))
        update.step(x, y, range(4))
        optimizer.zero_grad()
        cross_entropy(twin(x), y).mean().backward()
        optimizer.step()
    for n in range(4):
        for ours, theirs in zip(model.parameters_of(n), twin.parameters_of(n), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert math.isfinite(cross_entropy(model(x), y).sum().item())
