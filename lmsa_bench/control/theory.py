"""The deep linear network's propositions (section 3, appendix A.1), for loss ½‖y − x_N‖² and samples as columns."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class LinearLayer(NamedTuple):
    """Layer n of a deep linear network on a batch: the quantities of propositions 3.1 and 3.2."""

    beta: Tensor  # β_n = θ_{N-1} ⋯ θ_{n+1}, (d', d_{n+1})
    residual: Tensor  # y − x_N, (d', K)
    x: Tensor  # x_n, (d_n, K)
    x_next: Tensor  # x_{n+1}, (d_{n+1}, K)

    @property
    def p_next(self) -> Tensor:
        """p_{n+1} = β_nᵀ (y − x_N), (d_{n+1}, K) (appendix A.1)."""
        return self.beta.mT @ self.residual

    @property
    def r(self) -> Tensor:
        """r_n = p_{n+1} x_nᵀ, (d_{n+1}, d_n) (section 2.2)."""
        return self.p_next @ self.x.mT

    @property
    def loss(self) -> Tensor:
        """J = ½‖y − x_N‖² (section 3), a scalar."""
        return 0.5 * self.residual.square().sum()

    @property
    def rho_hat(self) -> Tensor:
        """ρ̂_n = d'/(2J) · ‖p_{n+1}ᵀ r_n x_n‖² / ‖r_n‖² (eq. 9), a scalar."""
        numerator = (self.p_next.mT @ self.r @ self.x).square().sum()
        return len(self.residual) / (2 * self.loss) * numerator / self.r.square().sum()

    @property
    def rho_star(self) -> Tensor:
        """ρ*_n = ‖β_n r_n x_n‖² / ‖r_n‖² (eq. 12), a scalar: the ρ_n with the smallest updated loss."""
        return (self.beta @ self.r @ self.x).square().sum() / self.r.square().sum()

    def predicted_loss(self, rho: Tensor | float) -> Tensor:
        """G_{n+1}(x_{n+1} + p_{n+1} x_nᵀ x_n / ρ_n) (eq. 11), a scalar: the loss after one step of eq. 10 with ρ_n."""
        y = self.residual + self.beta @ self.x_next
        return 0.5 * (y - self.beta @ (self.x_next + self.p_next @ (self.x.mT @ self.x) / rho)).square().sum()


def linear_layer(thetas: Sequence[Tensor], x: Tensor, y: Tensor, n: int) -> LinearLayer:
    """Layer n of the network θ_{N-1} ⋯ θ_0 on inputs x (d, K) and labels y (d', K)."""
    states = [x]
    for theta in thetas:
        states.append(theta @ states[-1])
    beta = torch.eye(len(y), dtype=x.dtype)
    for theta in reversed(thetas[n + 1 :]):
        beta = beta @ theta
    return LinearLayer(beta, y - states[-1], states[n], states[n + 1])


def simulated_gamma(
    widths: Sequence[int], n: int, draws: int, generator: torch.Generator, radius: float = 1.0
) -> Tensor:
    """γ_n = ρ̂_n / (d' ρ*_n) (eq. 20) for θ uniform in the ball B(0, radius) (proposition 3.2), float64 (draws,).

    The paper claims E γ = 1/d' for every layer. In γ = b₁₁² / Σ b_{i1}² (eq. 21), b₁₁ is a diagonal entry of a positive
    semi-definite matrix and the others are off-diagonal, so the claim fails; for the last layer γ is 1. The radius
    matters once x_N is no longer small compared to y; inputs x (widths[0],) and y are standard normal.
    """
    values = []
    shapes = list(pairwise(widths))
    count = sum(o * i for i, o in shapes)
    for _ in range(draws):
        direction = torch.randn(count, generator=generator, dtype=torch.float64)
        length = radius * torch.rand((), generator=generator, dtype=torch.float64) ** (1 / count)
        theta = direction * (length / direction.norm())
        thetas = [part.view(o, i) for part, (i, o) in zip(theta.split([o * i for i, o in shapes]), shapes, strict=True)]
        x = torch.randn(widths[0], 1, generator=generator, dtype=torch.float64)
        y = torch.randn(widths[-1], 1, generator=generator, dtype=torch.float64)
        layer = linear_layer(thetas, x, y, n)
        values.append(layer.rho_hat / widths[-1] / layer.rho_star)
    return torch.stack(values)
