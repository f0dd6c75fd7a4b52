"""The deep linear network x_{n+1} = θ_n x_n (paper, section 3), on which the theory is exact."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from lmsa_bench.models.layered import LayeredModel


def deep_linear(widths: Sequence[int]) -> LayeredModel:
    """N matrices θ_n (widths[n+1], widths[n]) without biases; the rows of a state x_n (K, widths[n]) are samples."""
    source = nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in pairwise(widths)))
    return LayeredModel(source, {f"theta{n}": layer for n, layer in enumerate(source)})
