"""The Hamiltonian of one layer (eq. 7) and its augmented form (section 2.1, after eq. 7)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]


def hamiltonian(g: Callable[[Tensor], Tensor], x: Tensor, p_next: Tensor, running_cost: Tensor | float = 0.0) -> Tensor:
    """H_n = p_{n+1} · g_n(x_n, θ) − L(θ) (eq. 7), a scalar: the product is summed over samples and features.

    x is x_n and p_next is p_{n+1}, both (K, …); θ are the parameters of g.
    """
    return (p_next * g(x)).sum() - running_cost


def augmented_hamiltonian(
    g: Callable[[Tensor], Tensor],
    x: Tensor,
    x_next: Tensor,
    p: Tensor,
    p_next: Tensor,
    rho: float,
    running_cost: Tensor | float = 0.0,
    costate_penalty: bool = True,
    reduction: Reduction = "sum",
) -> Tensor:
    """H̃(θ) = H − ½ρ‖x_{n+1} − g_n(x_n, θ)‖² − ½ρ‖p_n − (∂g_n/∂x)ᵀ p_{n+1}‖² (after eq. 7), a scalar to maximise over θ.

    x, p are x_n, p_n and x_next, p_next are x_{n+1}, p_{n+1}, all (K, …) and constant; θ are the parameters of g.
    ``sum`` adds over samples and features. ``mean`` averages over samples, and the squared norms over features too, so
    that ρ has the same effect at any width and batch size; p · g, a directional derivative, stays a sum over features.
    """
    costate_penalty = costate_penalty and rho != 0  # saves the double backward
    x = x.detach().requires_grad_(costate_penalty)
    output = g(x)
    product = (p_next * output).sum()
    penalties = [x_next - output]
    if costate_penalty:
        (pulled_back,) = torch.autograd.grad(product, x, create_graph=True)
        penalties.append(p - pulled_back)
    if reduction == "sum":
        return product - running_cost - 0.5 * rho * sum(e.square().sum() for e in penalties)
    return product / len(x) - running_cost - 0.5 * rho * sum(e.square().mean() for e in penalties)
