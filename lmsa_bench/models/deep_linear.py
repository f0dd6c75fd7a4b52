"""The deep linear network x_{n+1} = θ_n x_n, the paper's exact oracle (section 3)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from lmsa_bench.models.layered import LayeredModel


def deep_linear(widths: Sequence[int]) -> LayeredModel:
    """N matrices of shapes (widths[n+1], widths[n]) without biases; a state is (K, widths[n]), one sample a row."""
    source = nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in pairwise(widths)))
    return LayeredModel(source, {f"theta{n}": layer for n, layer in enumerate(source)})
