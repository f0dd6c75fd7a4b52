"""Corruptions that change each value by itself (make_imagenet_c.py and make_cifar_c.py of arXiv:1903.12261)."""

import numpy as np
import torch

from lmsa_bench.tasks.corruptions.draws import normal, poisson, uniform
from lmsa_bench.tasks.corruptions.pixels import Levels


def gaussian_noise(x: Levels, deviation: float, generator: torch.Generator) -> Levels:
    """Adds normal noise of that standard deviation, where white is 1."""
    return x + deviation * normal(x.shape, generator)


def shot_noise(x: Levels, photons: float, generator: torch.Generator) -> Levels:
    """Counts photons: a Poisson number at each value, of which `photons` make white."""
    return poisson(x * photons, generator) / photons


def impulse_noise(x: Levels, amount: float, generator: torch.Generator) -> Levels:
    """Salt and pepper: each value becomes 0 or 1, as likely, with probability `amount`."""
    draw = uniform(0, 1, x.shape, generator)
    return np.where(draw < amount, draw < amount / 2, x)


def speckle_noise(x: Levels, deviation: float, generator: torch.Generator) -> Levels:
    """Multiplies each value by a normal number of mean 1 and that standard deviation."""
    return x + x * deviation * normal(x.shape, generator)
