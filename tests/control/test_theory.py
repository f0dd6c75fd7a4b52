"""Propositions 3.1 and 3.2 in float64, and the criterion and MSA against the deep linear network."""

from itertools import pairwise

import pytest
import torch

from lmsa_bench.control import theory
from lmsa_bench.control.predicted_loss import predicted_loss
from lmsa_bench.control.trajectory import squared_error, trajectory
from lmsa_bench.control.updates import MSA
from lmsa_bench.models.deep_linear import deep_linear
from lmsa_bench.seeding import generator

WIDTHS = (5, 4, 6, 3)


def network(samples: int):
    g = generator(0, "theory", samples)
    thetas = [torch.randn(o, i, generator=g, dtype=torch.float64) for i, o in pairwise(WIDTHS)]
    x = torch.randn(WIDTHS[0], samples, generator=g, dtype=torch.float64)
    y = torch.randn(WIDTHS[-1], samples, generator=g, dtype=torch.float64)
    model = deep_linear(WIDTHS).double()
    for n, theta in enumerate(thetas):
        model.parameters_of(n)[0].data.copy_(theta)
    return thetas, x, y, model


def loss_of(thetas, x, y):
    for theta in thetas:
        x = theta @ x
    return 0.5 * (y - x).square().sum()


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("n", range(3))
@pytest.mark.parametrize("rho", [0.3, 10.0, 1e4])
def test_one_step_of_eq_10_gives_exactly_the_predicted_loss(samples, n, rho):
    thetas, x, y, _ = network(samples)
    layer = theory.linear_layer(thetas, x, y, n)
    updated = [*thetas[:n], thetas[n] + layer.r / rho, *thetas[n + 1 :]]  # eq. 13
    torch.testing.assert_close(loss_of(updated, x, y), layer.predicted_loss(rho), rtol=1e-10, atol=0)


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("n", range(3))
def test_rho_star_is_the_optimum_and_is_bounded_by_rho_hat(samples, n):
    thetas, x, y, _ = network(samples)
    layer = theory.linear_layer(thetas, x, y, n)
    best = layer.predicted_loss(layer.rho_star)
    for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0):
        assert layer.predicted_loss(layer.rho_star * factor) > best
    # J(α) = J − α‖r‖² + ½α²‖βrx‖² is quadratic: at its minimum the gain is ½‖r‖⁴/‖βrx‖² = ½‖r‖²/ρ*
    torch.testing.assert_close(layer.loss - best, 0.5 * layer.r.square().sum() / layer.rho_star, rtol=1e-10, atol=0)
    # The bound's right side for a batch, by Cauchy-Schwarz: ‖Pᵀ r X‖ ≤ ‖y − x_N‖ ‖β r X‖
    assert layer.rho_star >= layer.rho_hat / len(y) * (1 - 1e-12)


def test_the_claimed_expectation_does_not_hold():
    widths = (10,) * 5
    means = [theory.simulated_gamma(widths, n, 400, generator(0, "gamma", n)).mean().item() for n in range(4)]
    assert means[-1] == pytest.approx(1.0, abs=1e-12)  # β is the identity: γ = b₁₁²/b₁₁² = 1, not 1/d' = 0.1
    assert all(mean > 0.15 for mean in means)


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("state_view", ["flat", "position"])
def test_criterion_agrees_with_the_linear_network(samples, state_view):
    thetas, x, y, model = network(samples)
    scores = predicted_loss(state_view, loss=squared_error)(model, [(x.T, y.T)])
    layers = [theory.linear_layer(thetas, x, y, n) for n in range(3)]
    expected = [(layer.predicted_loss(layer.rho_hat) / samples).item() for layer in layers]
    assert scores.values == pytest.approx(expected, rel=1e-10)
    assert scores.logged["rho_hat"] == pytest.approx([layer.rho_hat.item() for layer in layers], rel=1e-10)
    assert scores.best == expected.index(min(expected))


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("state_view", ["flat", "position"])
@pytest.mark.parametrize("c", [0.01, 1.0, 10.0])
def test_the_step_that_is_taken_leaves_the_predicted_loss(samples, state_view, c):
    # Proposition 3.1 at the step itself, and ρ* of proposition 3.2 from second derivatives alone.
    thetas, x, y, model = network(samples)
    before = [theta.clone() for theta in model.parameters()]
    logged = predicted_loss(state_view, c, loss=squared_error, diagnose=True)(model, [(x.T, y.T)]).logged
    layers = [theory.linear_layer(thetas, x, y, n) for n in range(3)]
    expected = [(layer.predicted_loss(c * layer.rho_hat) / samples).item() for layer in layers]
    assert logged["loss_after"] == pytest.approx(expected, rel=1e-10)
    assert all(error <= 1e-10 * loss for error, loss in zip(logged["step_error"], expected, strict=True))
    ratios = [(c * layer.rho_hat / layer.rho_star).item() for layer in layers]
    assert logged["rho_ratio"] == pytest.approx(ratios, rel=1e-8)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_each_samples_own_step_leaves_its_predicted_loss():
    thetas, x, y, model = network(7)
    logged = predicted_loss("sample", 0.5, loss=squared_error, diagnose=True)(model, [(x.T, y.T)]).logged
    for n in range(3):
        alone = [theory.linear_layer(thetas, x[:, k : k + 1], y[:, k : k + 1], n) for k in range(7)]
        after = sum(one.predicted_loss(0.5 * one.rho_hat).item() for one in alone) / 7
        assert logged["loss_after"][n] == pytest.approx(after, rel=1e-10)
        assert logged["step_error"][n] <= 1e-10 * after
        ratio = sum((0.5 * one.rho_hat / one.rho_star).item() for one in alone) / 7
        assert logged["rho_ratio"][n] == pytest.approx(ratio, rel=1e-8)


def test_costates_of_the_linear_network():
    thetas, x, y, model = network(7)
    t = trajectory(model, x.T, y.T, squared_error)
    for n in range(3):
        torch.testing.assert_close(t.costate(n + 1).T, theory.linear_layer(thetas, x, y, n).p_next)


def test_one_inner_step_of_msa_at_rho_0_is_a_signed_gradient_step():
    # Adam's first step is lr · g/(|g| + ε): with ρ = 0 the ascent direction on H is −∂J/∂θ = r_n.
    thetas, x, y, model = network(7)
    model.tune_only([1])
    MSA(model, lr=0.01, rho=0.0, inner_steps=1, loss=squared_error).step(x.T, y.T, [1])
    moved = model.parameters_of(1)[0].detach() - thetas[1]
    torch.testing.assert_close(moved, 0.01 * theory.linear_layer(thetas, x, y, 1).r.sign(), rtol=1e-6, atol=0)
