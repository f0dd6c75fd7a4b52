"""What a column of the states is in eq. 8 and 9, which the paper leaves open for tensors: three readings."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

StateView = Literal["flat", "position", "sample"]
Reads = Callable[[Tensor], Tensor]
"""Maps the states x_n below a layer to those that its output is read from; see LayeredModel.reads."""


class Step(NamedTuple):
    """The terms of eq. 8 and 9 for layer n, with X = x_n, P = p_{n+1}, r_n = P Xᵀ and states as columns; float64.

    ‖r_n‖² and ‖Pᵀ r_n X‖² are scalars, or (K,) in the view ``sample``; the direction P·XᵀX has the shape of x_{n+1}.
    """

    r2: Tensor
    prx2: Tensor
    direction: Tensor


View = Callable[[Tensor, Tensor, Tensor, Reads | None], Step]
"""Maps x_n, x_{n+1}, p_{n+1} (K, …), and what the layer reads of x_n, to the terms of eq. 8 and 9."""


def flat(x: Tensor, x_next: Tensor, p_next: Tensor, reads: Reads | None = None) -> Step:
    """A sample is a column, d = numel: K x K Gram matrices give all terms without forming r_n (d_{n+1} x d_n)."""
    rows_x, rows_p = x.flatten(1).double(), p_next.flatten(1).double()
    a, b = rows_p @ rows_p.T, rows_x @ rows_x.T
    return Step((a * b).sum(), (a @ b).square().sum(), (b @ rows_p).view_as(x_next))


def sample(x: Tensor, x_next: Tensor, p_next: Tensor, reads: Reads | None = None) -> Step:
    """Each sample is a separate problem with K = 1: the norms are (K,)."""
    x2, p2 = (s.flatten(1).double().square().sum(1) for s in (x, p_next))
    direction = p_next.double() * x2.view(-1, *(1,) * (p_next.ndim - 1))
    return Step(x2 * p2, (x2 * p2).square(), direction)


def position(x: Tensor, x_next: Tensor, p_next: Tensor, reads: Reads | None = None) -> Step:
    """A (sample, pixel or token) pair is a column, d = channels: r_n (channels x channels) is formed.

    A layer with one output a sample has one column a sample: what it reads of x_n, by default the mean over positions.
    """
    x = _at_resolution_of(x_next, reads(x) if reads else x)
    # Tokens without a position in x_n (the class token above an image) come first and are not perturbed.
    prefix = x_next.shape[1] - x.shape[1] if x_next.ndim == 3 else 0
    columns_x, columns_p = _columns(x), _columns(p_next[:, prefix:])
    r = columns_p @ columns_x.T
    a, b = columns_p @ columns_p.T, columns_x @ columns_x.T
    direction = torch.zeros_like(x_next, dtype=torch.float64)
    moved = _channels_first(direction[:, prefix:])
    moved.copy_((r @ columns_x).view(moved.shape))
    return Step(r.square().sum(), ((a @ r @ b) * r).sum(), direction)


STATE_VIEWS: dict[StateView, View] = {"flat": flat, "position": position, "sample": sample}


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
