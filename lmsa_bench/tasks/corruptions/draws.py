"""Random numbers as arrays, from a generator as seeding makes them."""

import numpy as np
import torch
from numpy.typing import NDArray

from lmsa_bench.tasks.corruptions.pixels import Levels


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Levels:
    """Standard normal numbers."""
    return torch.randn(shape, generator=generator).numpy()


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Levels:
    """Numbers in [low, high), all as likely."""
    return low + (high - low) * torch.rand(shape, generator=generator).numpy()


def integers(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> NDArray[np.int64]:
    """Whole numbers in [low, high), all as likely."""
    return torch.randint(low, high, shape, generator=generator).numpy()


def poisson(mean: Levels, generator: torch.Generator) -> Levels:
    """Counts of that mean at each place."""
    return torch.poisson(torch.from_numpy(mean), generator=generator).numpy()
