"""Propositions 3.1 and 3.2 of the paper, checked in numbers on deep linear networks; no trial is needed."""

from functools import cache
from itertools import pairwise, product
from statistics import fmean
from typing import NamedTuple

from lmsa_bench.analysis.ranks import Interval, t_interval
from lmsa_bench.analysis.report import Section
from lmsa_bench.analysis.text import aligned

OUTPUTS = (2, 5, 10, 20)  # d', each the width of every layer
RADII = (1.0, 100.0)  # of the ball of θ: x_N is next to nothing beside y, or the other way round
LAYERS = 4
DRAWS = 400
NETWORKS = 20  # on which the propositions are checked, with batches of 1 to 20 samples


class Check(NamedTuple):
    """What a proposition says, and how far the worst of the networks and layers is from it."""

    claim: str
    measured: str
    holds: bool


class Gamma(NamedTuple):
    """E γ of one layer, which the paper claims to be 1/d'; γ = α*/(d' α̂)."""

    radius: float
    outputs: int
    layer: int
    mean: float
    interval: Interval


@cache
def checks() -> tuple[Check, ...]:
    """The propositions on random networks in float64."""
    import torch

    from lmsa_bench.control.theory import linear_layer
    from lmsa_bench.seeding import generator

    widths = (5, 4, 6, 7, 3)
    step, optimum, bound = 0.0, 0.0, float("inf")
    for samples in range(1, NETWORKS + 1):
        draw = generator(samples, "theory")
        thetas = [torch.randn(o, i, generator=draw, dtype=torch.float64) for i, o in pairwise(widths)]
        x = torch.randn(widths[0], samples, generator=draw, dtype=torch.float64)
        y = torch.randn(widths[-1], samples, generator=draw, dtype=torch.float64)
        for n in range(len(thetas)):
            layer = linear_layer(thetas, x, y, n)
            for rho in (layer.rho_hat, layer.rho_star):
                updated = [*thetas[:n], thetas[n] + layer.r / rho, *thetas[n + 1 :]]
                loss = linear_layer(updated, x, y, n).loss
                step = max(step, (abs(layer.predicted_loss(rho) - loss) / layer.loss).item())
            # The updated loss is a parabola in 1/ρ, so three of its points give its minimum.
            alpha = 1 / layer.rho_star
            left, middle, right = (layer.predicted_loss(1 / (alpha * factor)) for factor in (0.5, 1.0, 1.5))
            vertex = 1 + 0.25 * (left - right) / (left - 2 * middle + right)
            optimum = max(optimum, abs(vertex - 1).item())
            bound = min(bound, (layer.rho_star * len(y) / layer.rho_hat).item())
    return (
        Check("3.1: one step of eq. 10 leaves the loss Ĵ_n of eq. 11", f"largest error {step:.1e} J", step < 1e-10),
        Check("3.2: ρ* of eq. 12 minimises the updated loss", f"largest relative error {optimum:.1e}", optimum < 1e-10),
        Check("3.2: ρ* is at least ρ̂ / d'", f"smallest d' ρ* / ρ̂ = {bound:.6f}", bound > 1 - 1e-12),
        Check(
            "3.2: E α* = E α̂, by E γ = 1/d'",
            "see below",
            all(g.interval.low <= 1 / g.outputs <= g.interval.high for g in gammas()),
        ),
    )


@cache
def gammas() -> tuple[Gamma, ...]:
    """E γ by simulation, with its 95 % t interval over the draws."""
    from lmsa_bench.control.theory import simulated_gamma
    from lmsa_bench.seeding import generator

    found = []
    for radius, outputs, n in product(RADII, OUTPUTS, range(LAYERS)):
        draw = generator(0, "gamma", int(radius), outputs, n)
        values = simulated_gamma((outputs,) * (LAYERS + 1), n, DRAWS, draw, radius).tolist()
        interval = t_interval(values)
        assert interval is not None
        found.append(Gamma(radius, outputs, n, fmean(values), interval))
    return tuple(found)


def section() -> Section:
    """The checks and the simulation as text and as JSON."""
    lines = [f"Theory: deep linear networks in float64, {NETWORKS} networks of 4 layers for the propositions", ""]
    table = [[check.claim, "yes" if check.holds else "no", check.measured] for check in checks()]
    lines += aligned([["proposition", "holds", "measured"], *table])
    lines += [
        "",
        f"E γ of {LAYERS} layers of width d', {DRAWS} draws of θ, 95 % t interval; the paper claims 1/d' for each",
        "",
    ]
    table = [["|θ| up to", "d'", "1/d'", *(f"layer {n}" for n in range(LAYERS))]]
    for radius, outputs in product(RADII, OUTPUTS):
        own = [f"{g.mean:.3f} ± {g.interval.high - g.mean:.3f}" for g in of(radius, outputs)]
        table.append([f"{radius:g}", str(outputs), f"{1 / outputs:.3f}", *own])
    lines += aligned(table)
    document = {"propositions": [c._asdict() for c in checks()], "gamma": [g._asdict() for g in gammas()]}
    return Section("theory", lines, document)


def of(radius: float, outputs: int) -> list[Gamma]:
    """The layers of one radius and width."""
    return [g for g in gammas() if (g.radius, g.outputs) == (radius, outputs)]
